"""Requests in, vectors out: the engine for embedding models and cross-encoders."""
