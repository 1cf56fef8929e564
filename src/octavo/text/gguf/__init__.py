"""The tokenizer that a GGUF file carries in its metadata, made into the one that the rest of the package uses.

Knows the metadata's keys and values, not the file's format: that is the subject of ``octavo.models.gguf``.
"""

from octavo.text.gguf.tokenizer import tokenizer_from_gguf

__all__ = ["tokenizer_from_gguf"]
