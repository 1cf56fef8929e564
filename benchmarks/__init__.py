"""Measurements of the engine and its server, beside peers and physical limits; see README.md here."""
