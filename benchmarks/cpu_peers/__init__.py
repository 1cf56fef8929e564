"""This engine and its peers on a CPU: the same shapes, the same two threads, taking turns in one run."""
