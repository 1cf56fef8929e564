"""The recipe of `octavo-nano`, the little language model in the box: data, tokenizer, training, export, evaluation.

Everything is generated here from a seed; nothing is downloaded. Nothing in `octavo` itself may import this package.
"""
