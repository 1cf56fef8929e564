"""GGUF, the file format of llama.cpp: one file holds a model's weights, its configuration and its tokenizer.

``reader`` knows the format, ``split`` puts files back together that are one model, ``config`` reads the metadata as a
``ModelConfig``; none of them imports torch. ``blocks`` and ``dequantize`` turn the tensors into what modules take. The
tokenizer is built from the same metadata by ``octavo.text.gguf``.
"""
