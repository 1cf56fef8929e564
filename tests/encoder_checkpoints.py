"""Small random encoders and cross-encoders made by transformers, with tokenizers and files of sentence-transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedModel

VOCAB_SIZE = 300
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_BERT_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_ROBERTA_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
_CONFIGS = {
    "Bert": transformers.BertConfig,
    "Roberta": transformers.RobertaConfig,
    "XLMRoberta": transformers.XLMRobertaConfig,
    "DistilBert": transformers.DistilBertConfig,
}
_BASE: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 130,
    "type_vocab_size": 2,
}
_DISTILBERT: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "dim": 32,
    "hidden_dim": 64,
    "n_layers": 2,
    "n_heads": 4,
    "max_position_embeddings": 130,
}


def make_encoder(directory: Path, architecture: str, *, seed: int = 0, **overrides: Any) -> Path:
    """Save a random float32 model of an architecture such as ``BertModel``, with a tokenizer; return its directory.

    Every parameter is random, biases and norms included.

    Args:
        overrides: fields of the transformers configuration.
    """
    family = next(name for name in ("XLMRoberta", "Roberta", "DistilBert", "Bert") if architecture.startswith(name))
    fields = dict(_DISTILBERT if family == "DistilBert" else _BASE)
    if architecture.endswith("ForSequenceClassification"):
        fields["num_labels"] = 1
    if family in ("Roberta", "XLMRoberta"):
        fields |= {"pad_token_id": 1, "type_vocab_size": 1}
    model = getattr(transformers, architecture)(_CONFIGS[family](**(fields | overrides)))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name.lower() and name.endswith("weight"):
                parameter.uniform_(0.5, 1.5, generator=generator)
            else:
                parameter.normal_(std=0.3, generator=generator)
    model.save_pretrained(directory)
    save_encoder_tokenizer(directory, is_bert=family in ("Bert", "DistilBert"))
    return directory


def load_encoder(directory: Path) -> PreTrainedModel:
    """Load a checkpoint with transformers as the class that its config.json names."""
    architecture = json.loads((directory / "config.json").read_text())["architectures"][0]
    model: PreTrainedModel = getattr(transformers, architecture).from_pretrained(directory, dtype=torch.float32)
    return model.eval()


def save_encoder_tokenizer(directory: Path, *, is_bert: bool) -> None:
    """Save a tokenizer of single letters and a few short words, with the special tokens of BERT or of RoBERTa."""
    special = _BERT_TOKENS if is_bert else _ROBERTA_TOKENS
    pieces = [*_LETTERS, *(f"##{letter}" for letter in _LETTERS), "the", "sea", "ship", "red", "planet"]
    vocab = {token: index for index, token in enumerate([*special, *pieces])}
    tokenizer = Tokenizer(models.WordPiece(vocab=vocab, unk_token=special[1 if is_bert else 3]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if is_bert:
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        names = dict(zip(("pad", "unk", "cls", "sep", "mask"), special, strict=True))
    else:
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
        names = {"bos": "<s>", "cls": "<s>", "pad": "<pad>", "eos": "</s>", "sep": "</s>", "unk": "<unk>"}
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(directory / "tokenizer.json"))
    settings: dict[str, Any] = {f"{name}_token": token for name, token in names.items()}
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    settings["model_input_names"] = ["input_ids", *(["token_type_ids"] if is_bert else []), "attention_mask"]
    (directory / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def save_pooling_files(
    directory: Path,
    *,
    pooling: dict[str, Any] | None = None,
    normalize: bool = True,
    transformer: dict[str, Any] | None = None,
) -> Path:
    """Save modules.json and what it points to, as sentence-transformers does; mean pooling by default."""
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), *([("2_Normalize", "Normalize")] if normalize else [])]
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(kinds)
    ]
    (directory / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (directory / "1_Pooling").mkdir(exist_ok=True)
    settings = {"word_embedding_dimension": 32, **(pooling or {"pooling_mode_mean_tokens": True})}
    (directory / "1_Pooling" / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    if transformer is not None:
        (directory / "sentence_bert_config.json").write_text(json.dumps(transformer), encoding="utf-8")
    return directory
