"""Text and tokens: the tokenizer, incremental detokenisation, stop strings and chat templates.

Knows neither tensors nor HTTP.
"""

from octavo.text.chat_template import ChatTemplate, load_chat_template
from octavo.text.detokenizer import IncrementalDetokenizer
from octavo.text.text_batch import Text, TokenizedText
from octavo.text.text_stream import TextDelta, TextStream
from octavo.text.tokenizer import Tokenizer

__all__ = [
    "ChatTemplate",
    "IncrementalDetokenizer",
    "Text",
    "TextDelta",
    "TextStream",
    "TokenizedText",
    "Tokenizer",
    "load_chat_template",
]
