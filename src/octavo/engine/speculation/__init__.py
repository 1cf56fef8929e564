"""Speculative decoding: guesses of the next tokens, checked several at a time by the model itself."""
