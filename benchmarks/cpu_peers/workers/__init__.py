"""What runs inside each peer's own environment. A worker imports the standard library, numpy and its peer, no more."""
