"""Random-weight checkpoints, made once: a directory as transformers writes it, and GGUF files as llama.cpp reads them.

The weights of all files are the same numbers. Every matrix of a GGUF file has the file's own type, the embedding table
too, so that a format has the same bytes in every engine.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from benchmarks.random_weights import random_weights
from benchmarks.report import progress
from benchmarks.shapes import LlamaShape, Qwen3Shape

GGUF_TYPES = {
    "f16": GGMLQuantizationType.F16,
    "bf16": GGMLQuantizationType.BF16,
    "q8_0": GGMLQuantizationType.Q8_0,
    "q4_0": GGMLQuantizationType.Q4_0,
}
OPENVINO_FORMATS = ("fp16", "int8")
_WEIGHTS = "model.safetensors"


def make_checkpoints(cache: Path, key: str, shape: Qwen3Shape) -> dict[str, Path]:
    """Make what is not there yet.

    Returns:
        The checkpoint's directory as ``hf``, and a file for each of ``GGUF_TYPES``.
    """
    directory = cache / key
    paths = {"hf": directory / "hf", **{name: directory / f"{key}-{name}.gguf" for name in GGUF_TYPES}}
    if not paths["hf"].exists():
        progress(f"making {paths['hf']}")
        _make_directory(paths["hf"], shape)
    for name, kind in GGUF_TYPES.items():
        if not paths[name].exists():
            progress(f"making {paths[name]}")
            _make_gguf(paths[name], paths["hf"], shape, kind)
    return paths


def export_for_openvino(cache: Path, key: str, python: Path) -> dict[str, Path]:
    """Export the checkpoint with Optimum, which the Python's environment must have; do what is not done yet.

    Returns:
        A directory for each of ``OPENVINO_FORMATS``, as ``openvino-FORMAT``.

    Raises:
        subprocess.CalledProcessError: Optimum failed.
    """
    paths = {f"openvino-{name}": cache / key / f"openvino-{name}" for name in OPENVINO_FORMATS}
    for name, path in zip(OPENVINO_FORMATS, paths.values(), strict=True):
        if not path.exists():
            progress(f"making {path}")
            unfinished = path.with_suffix(".unfinished")
            command = [str(python.with_name("optimum-cli")), "export", "openvino", "--weight-format", name]
            command += ["--task", "text-generation-with-past", "--model", str(cache / key / "hf"), str(unfinished)]
            subprocess.run(command, check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}, stdout=sys.stderr)
            unfinished.rename(path)
    return paths


def _make_directory(directory: Path, shape: Qwen3Shape) -> None:
    unfinished = directory.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    shape.write_config(unfinished, "bfloat16")
    _tokenizer(shape.vocab_size).save(str(unfinished / "tokenizer.json"))
    (unfinished / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": shape.max_position_embeddings})
    )
    save_file(random_weights(shape), unfinished / _WEIGHTS, metadata={"format": "pt"})
    unfinished.rename(directory)


def _tokenizer(vocab_size: int) -> Tokenizer:
    """Return a byte-level tokenizer; ids that are neither a byte nor the one merge are words that no text needs."""
    vocab = {character: number for number, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocab["ab"] = len(vocab)
    for number in range(len(vocab), vocab_size):
        vocab[f"Ġw{number}"] = number
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _make_gguf(path: Path, checkpoint: Path, shape: Qwen3Shape, kind: GGMLQuantizationType) -> None:
    architecture = gguf.MODEL_ARCH.LLAMA if isinstance(shape, LlamaShape) else gguf.MODEL_ARCH.QWEN3
    unfinished = path.with_suffix(".unfinished")
    writer = GGUFWriter(unfinished, gguf.MODEL_ARCH_NAMES[architecture])
    _add_metadata(writer, checkpoint, shape, kind)
    names = gguf.get_tensor_name_map(architecture, shape.num_layers)
    with safe_open(checkpoint / _WEIGHTS, "pt") as weights:
        for name in sorted(weights.keys()):
            values = weights.get_tensor(name).float().numpy()
            if architecture == gguf.MODEL_ARCH.LLAMA and name.endswith(("q_proj.weight", "k_proj.weight")):
                values = _interleave_heads(values, shape.num_heads if "q_proj" in name else shape.num_kv_heads)
            stored = kind if values.ndim > 1 else GGMLQuantizationType.F32
            new_name = names.get_name(name, try_suffixes=(".weight",))
            if new_name is None:
                raise RuntimeError(f"GGUF has no name for {name}")
            writer.add_tensor(new_name, gguf.quants.quantize(values, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    unfinished.rename(path)


def _interleave_heads(values: np.ndarray[Any, Any], num_heads: int) -> np.ndarray[Any, Any]:
    """Order the rows of queries or keys as llama.cpp rotates them for the architecture llama."""
    halves = values.reshape(num_heads, 2, -1, values.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)


def _add_metadata(writer: GGUFWriter, checkpoint: Path, shape: Qwen3Shape, kind: GGMLQuantizationType) -> None:
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    writer.add_name(shape.name)
    writer.add_file_type(getattr(gguf.LlamaFileType, f"MOSTLY_{kind.name}"))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(shape.num_layers)
    writer.add_context_length(shape.max_position_embeddings)
    writer.add_embedding_length(shape.hidden_size)
    writer.add_feed_forward_length(shape.intermediate_size)
    writer.add_head_count(shape.num_heads)
    writer.add_head_count_kv(shape.num_kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(shape.vocab_size)
    vocab = Tokenizer.from_file(str(checkpoint / "tokenizer.json")).get_vocab()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(sorted(vocab, key=vocab.__getitem__))
    writer.add_token_types([int(TokenType.NORMAL)] * len(vocab))
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)
