"""GGUF files made from checkpoints by the ``gguf`` package, in the way of llama.cpp's own converter."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import tokenizers
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from gguf.constants import GGML_QUANT_SIZES
from safetensors.torch import load_file

Array = np.ndarray[Any, Any]
ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "mistral": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
}


def make_gguf(
    path: Path,
    checkpoint: Path,
    *,
    kind: GGMLQuantizationType = GGMLQuantizationType.F32,
    kinds: Mapping[str, GGMLQuantizationType] | None = None,
    tokenizer: bool = True,
    pre: str = "gpt-2",
    settings: dict[str, Any] | None = None,
    extra_tensors: dict[str, Array] | None = None,
    **writer_options: Any,
) -> Path:
    """Write a checkpoint of the families llama, mistral, qwen2 or qwen3 as a GGUF file.

    Args:
        kind: how matrices are stored; all else is F32.
        kinds: the same for single matrices, by their names in the file. Those of a type with K, which the ``gguf``
            package cannot make, get random blocks.
        tokenizer: write the byte-level tokenizer and the chat template beside the checkpoint, too.
        pre: what the tokenizer's way to split text is called.
        settings: metadata to add or to replace; None leaves a key out.
        extra_tensors: float32 tensors to add.
        writer_options: of ``GGUFWriter``.
    """
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    architecture = ARCHITECTURES[config["model_type"]]
    name = gguf.MODEL_ARCH_NAMES[architecture]
    writer = GGUFWriter(path, name, **writer_options)
    metadata = {f"{name}.{key}": value for key, value in _architecture_metadata(config).items()}
    if tokenizer:
        metadata |= byte_level_metadata(checkpoint, pre)
    add_metadata(writer, metadata | (settings or {}))
    names = gguf.get_tensor_name_map(architecture, config["num_hidden_layers"])
    for tensor_name, tensor in sorted(load_file(checkpoint / "model.safetensors").items()):
        new_name = names.get_name(tensor_name, try_suffixes=(".weight", ".bias"))
        assert new_name is not None, tensor_name
        values = tensor.float().numpy()
        if name == "llama" and tensor_name.split(".")[-2] in ("q_proj", "k_proj"):
            heads = "num_attention_heads" if ".q_proj." in tensor_name else "num_key_value_heads"
            values = interleave_heads(values, config[heads])
        of_tensor = (kinds or {}).get(new_name, kind) if values.ndim > 1 else GGMLQuantizationType.F32
        if of_tensor in _K_TYPES:
            blocks_a_row = values.shape[1] // GGML_QUANT_SIZES[of_tensor][0]
            blocks = random_blocks(of_tensor, len(values), blocks_a_row, scale=1e-4)
            writer.add_tensor(new_name, blocks, raw_dtype=of_tensor)
        else:
            add_tensor(writer, new_name, values, of_tensor)
    for extra_name, values in (extra_tensors or {}).items():
        add_tensor(writer, extra_name, values, GGMLQuantizationType.F32)
    write(writer)
    return path


def interleave_heads(values: Array, num_heads: int) -> Array:
    """Order the rows of queries or keys as llama.cpp rotates them for the architecture llama."""
    return values.reshape(num_heads, 2, -1, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def add_tensor(writer: GGUFWriter, name: str, values: Array, kind: GGMLQuantizationType) -> None:
    writer.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(values), kind), raw_dtype=kind)


def random_blocks(
    kind: GGMLQuantizationType, num_rows: int, blocks_a_row: int, seed: int = 0, scale: float = 1.0
) -> Array:
    """Random bytes as stored blocks, ``[num_rows, row_bytes]``; float16 scales are finite, near ``scale``."""
    generator = np.random.default_rng(seed)
    block_bytes = GGML_QUANT_SIZES[kind][1]
    blocks = generator.integers(0, 256, (num_rows, blocks_a_row, block_bytes), dtype=np.uint8)
    for start in _SCALES.get(kind, ()):
        scales = (generator.standard_normal((num_rows, blocks_a_row, 1)) * scale).astype(np.float16)
        blocks[:, :, start : start + 2] = scales.view(np.uint8)
    return blocks.reshape(num_rows, -1)


_K_TYPES = (GGMLQuantizationType.Q4_K, GGMLQuantizationType.Q5_K, GGMLQuantizationType.Q6_K)
_SCALES = {
    GGMLQuantizationType.Q8_0: (0,),
    GGMLQuantizationType.Q4_0: (0,),
    GGMLQuantizationType.Q4_1: (0, 2),
    GGMLQuantizationType.Q5_0: (0,),
    GGMLQuantizationType.Q5_1: (0, 2),
    GGMLQuantizationType.Q4_K: (0, 2),
    GGMLQuantizationType.Q5_K: (0, 2),
    GGMLQuantizationType.Q6_K: (208,),
}


def byte_level_metadata(directory: Path, pre: str) -> dict[str, Any]:
    """The metadata of a directory's byte-level tokenizer.json and of what tokenizer_config.json says."""
    backend = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    model = json.loads(backend.to_str())["model"]
    named = json.loads((directory / "tokenizer_config.json").read_text(encoding="utf-8"))
    metadata: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        **token_metadata(backend),
        "tokenizer.ggml.merges": [" ".join(merge) for merge in model["merges"]],
        "tokenizer.ggml.add_bos_token": bool(named.get("add_bos_token")),
        "tokenizer.chat_template": named.get("chat_template"),
    }
    for key, name in (("bos", "bos_token"), ("eos", "eos_token"), ("padding", "pad_token"), ("unknown", "unk_token")):
        if named.get(name):
            metadata[f"tokenizer.ggml.{key}_token_id"] = backend.token_to_id(named[name])
    return metadata


def token_metadata(backend: tokenizers.Tokenizer) -> dict[str, Any]:
    """Tokens and their types; an id without a token gets an unused one, as from the converter."""
    vocab = backend.get_vocab(with_added_tokens=True)
    token_of = {token_id: token for token, token_id in vocab.items()}
    added = backend.get_added_tokens_decoder()
    tokens, kinds = [], []
    for token_id in range(max(token_of) + 1):
        tokens.append(token_of.get(token_id, f"[PAD{token_id}]"))
        if token_id in added:
            kinds.append(TokenType.CONTROL if added[token_id].special else TokenType.USER_DEFINED)
        else:
            kinds.append(TokenType.NORMAL if token_id in token_of else TokenType.UNUSED)
    return {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": [int(kind) for kind in kinds]}


def add_metadata(writer: GGUFWriter, metadata: dict[str, Any]) -> None:
    """Add keys with the types that llama.cpp's converter gives them."""
    add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    for key, value in metadata.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif value is not None:
            add[type(value)](key, value)


def write(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def split_files(directory: Path, stem: str, count: int) -> Iterable[Path]:
    """The names of a model that is split over ``count`` files."""
    return [directory / f"{stem}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]


def _architecture_metadata(config: dict[str, Any]) -> dict[str, Any]:
    rope = config.get("rope_parameters") or {}
    metadata = {
        "block_count": config["num_hidden_layers"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "rope.freq_base": float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0),
        "rope.dimension_count": config.get("head_dim"),
        "attention.key_length": config.get("head_dim"),
        "attention.value_length": config.get("head_dim"),
        "vocab_size": config["vocab_size"],
    }
    if rope.get("rope_type") in ("linear", "yarn"):
        metadata |= {"rope.scaling.type": rope["rope_type"], "rope.scaling.factor": float(rope["factor"])}
        metadata["rope.scaling.original_context_length"] = rope.get("original_max_position_embeddings")
    return metadata
