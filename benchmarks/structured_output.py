"""What a JSON schema on every request costs: the same batch with and without one, and the work behind it.

A model of Qwen3-0.6B's shape with random weights decodes a batch of 8. Both loads generate the same number of tokens in
the same number of steps: the schema is that of an endless list, and forced tokens are sampled one by one.
"""

from __future__ import annotations

import argparse
import base64
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.environment import describe_environment
from benchmarks.octavo_generation import OctavoGenerator
from benchmarks.report import add_output_options, markdown_table, output_path, percentile, progress, write_json
from benchmarks.shapes import QWEN3_0_6B
from octavo import SamplingParams, StructuredOutputsParams
from octavo.engine.messages import EngineRequest
from octavo.engine.structured.compiler import GrammarCompiler
from octavo.engine.structured.grammar import write_grammar
from octavo.engine.structured.masks import MaskWorker
from octavo.engine.structured.state import GrammarRows
from octavo.engine.structured.vocabulary import grammar_vocabulary
from octavo.text import Tokenizer

GOAL_THROUGHPUT = 0.90
GOAL_MASK_US = 100.0
BATCH_SIZE = 8
PROMPT_LEN = 32
RECORD = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "kind": {"enum": ["alpha", "beta", "gamma"]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 12}},
        "place": {
            "type": "object",
            "properties": {"x": {"type": "number"}, "y": {"type": ["number", "null"]}},
            "required": ["x", "y"],
            "additionalProperties": False,
        },
    },
    "required": ["name", "age", "kind", "tags", "place"],
    "additionalProperties": False,
}
ENDLESS = {"type": "array", "items": RECORD, "minItems": 100_000}


def write_model(directory: Path, ranks: Path | None, num_layers: int) -> None:
    """Write a config and a byte-level tokenizer of 151,936 ids, of the given ranks or of made-up tokens."""
    shape = replace(QWEN3_0_6B, num_layers=num_layers)
    shape.write_config(directory, "float32")
    tokens = _tokens_of(ranks) if ranks else _made_tokens(151_643)
    spelled = {spell(token): index for index, token in enumerate(tokens)}
    num_known = len(tokens)
    special = {"id": num_known, "content": "<|im_end|>", "special": True, "normalized": False}
    special |= {"single_word": False, "lstrip": False, "rstrip": False}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [special],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": spelled, "merges": [], "ignore_merges": True},
    }
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    (directory / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))


def _tokens_of(ranks: Path) -> list[bytes]:
    return [base64.b64decode(line.split()[0]) for line in ranks.read_text().splitlines()]


def _made_tokens(count: int) -> list[bytes]:
    """All bytes, then words of letters, digits and punctuation, a third of them behind a space."""
    rng = np.random.default_rng(0)
    tokens = {bytes([byte]): None for byte in range(256)}
    letters = np.frombuffer(b"etaoinshrdlucmfwypvbgkjqxz" * 6 + b"0123456789" * 2 + b'{}[]":,._-', dtype=np.uint8)
    while len(tokens) < count:
        word = rng.choice(letters, rng.integers(2, 9)).tobytes()
        tokens[b" " + word if rng.random() < 1 / 3 else word] = None
    return list(tokens)


def spell(token: bytes) -> str:
    """Write a token's bytes in the characters of byte-level vocabularies."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return "".join(chr(byte) if byte in printable else chr(0x100 + hidden.index(byte)) for byte in token)


def decode(generator: OctavoGenerator, num_tokens: int, grammar: str, round_number: int) -> list[float]:
    """Decode a batch; return the seconds of each step but the first, which computes the prompts."""
    core, rng = generator.core, np.random.default_rng(round_number)
    for index in range(BATCH_SIZE):
        core.add(
            EngineRequest(
                request_id=f"{round_number}-{bool(grammar)}-{index}",
                prompt_token_ids=rng.integers(1000, 100_000, PROMPT_LEN).tolist(),
                sampling_params=SamplingParams(temperature=1.0, logprobs=0),  # so that every token is sampled
                max_tokens=num_tokens,
                eos_token_ids=[],
                seed=index,
                grammar=grammar,
            )
        )
    times: list[float] = []
    while core.has_work:
        started = time.perf_counter()
        step = core.step()
        if step.num_tokens:
            times.append(time.perf_counter() - started)
    return times[1:]


def measure_masks(tokenizer: Tokenizer, vocab_size: int, num_tokens: int) -> dict[str, Any]:
    """Walk through a schema at random; return microseconds a token of each part of the work."""
    started = time.perf_counter()
    vocabulary = grammar_vocabulary(tokenizer, vocab_size)
    vocabulary_s = time.perf_counter() - started
    compiler = GrammarCompiler(lambda: vocabulary)
    compile_ms: list[float] = []
    for index in range(20):
        grammar = write_grammar(StructuredOutputsParams(json=RECORD | {"title": str(index)}))
        started = time.perf_counter()
        compiled = compiler.submit(grammar).result()
        compile_ms.append((time.perf_counter() - started) * 1e3)
    rng = np.random.default_rng(0)
    mask = np.empty((vocab_size + 31) // 32, dtype=np.uint32)
    worker = MaskWorker(vocab_size, torch.device("cpu"))
    logits = torch.randn(1, vocab_size)
    fill_us: list[float] = []
    accept_us: list[float] = []
    apply_us: list[float] = []
    state = compiled.start()
    for _ in range(num_tokens):
        if state.is_complete:
            state = compiled.start()
        started = time.perf_counter()
        state.fill_mask(mask)
        fill_us.append((time.perf_counter() - started) * 1e6)
        pending = worker.begin([GrammarRows(0, state)])
        assert pending is not None
        mask_of_step = pending.result()
        started = time.perf_counter()
        mask_of_step.apply(logits)
        apply_us.append((time.perf_counter() - started) * 1e6)
        allowed = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))
        started = time.perf_counter()
        state.accept(int(rng.choice(allowed)))
        accept_us.append((time.perf_counter() - started) * 1e6)
    parts = {"mask": fill_us, "apply": apply_us, "accept": accept_us}
    return {
        "vocab_size": vocab_size,
        "vocabulary_s": vocabulary_s,
        "compile_median_ms": statistics.median(compile_ms),
        **{f"{name}_mean_us": statistics.mean(times) for name, times in parts.items()},
        **{f"{name}_p99_us": percentile(times, 99) for name, times in parts.items()},
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.structured_output", description=__doc__)
    parser.add_argument("--ranks", type=Path, help="vocabulary in tiktoken's format; by default made-up tokens")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=16, help="tokens of each sequence")
    parser.add_argument("--layers", type=int, default=QWEN3_0_6B.num_layers)
    parser.add_argument("--quantization", choices=("int8", "int4"), help="otherwise float32")
    add_output_options(parser)
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.tokens, args.layers = 1, 4, 2
    environment = describe_environment()
    with tempfile.TemporaryDirectory() as path:
        directory = Path(path)
        write_model(directory, args.ranks, args.layers)
        progress("masks")
        masks = measure_masks(Tokenizer.from_directory(directory), QWEN3_0_6B.vocab_size, 200 if args.quick else 1000)
        progress("model")
        generator = OctavoGenerator(
            directory,
            max_model_len=256,
            load_format="dummy",
            quantization=args.quantization,
            kv_cache_memory_bytes=2**29,
        )
        grammar = write_grammar(StructuredOutputsParams(json=ENDLESS))
        times: dict[str, list[list[float]]] = {"free": [], "json": []}
        decode(generator, 2, grammar, args.rounds)
        for number in range(args.rounds):
            progress(f"round {number + 1} of {args.rounds}")
            for name, used in (("free", ""), ("json", grammar)):
                times[name].append(decode(generator, args.tokens, used, number))
    ratios = [sum(free) / sum(form) for free, form in zip(times["free"], times["json"], strict=True)]
    speeds = {name: [BATCH_SIZE * len(steps) / sum(steps) for steps in rounds] for name, rounds in times.items()}
    ratio = statistics.median(ratios)
    rows = [[name, f"{statistics.median(values):.1f}"] for name, values in speeds.items()]
    print(markdown_table(["output", "tokens/s"], rows))
    parts = ("mask", "apply", "accept")
    table = [[part, f"{masks[f'{part}_mean_us']:.1f}", f"{masks[f'{part}_p99_us']:.1f}"] for part in parts]
    print("\n" + markdown_table(["work a token", "mean, µs", "p99, µs"], table))
    print(f"\nvocabulary {masks['vocabulary_s']:.2f} s, schema {masks['compile_median_ms']:.2f} ms")
    goals = [
        {"goal": "throughput with a schema to without", "value": ratio, "at_least": GOAL_THROUGHPUT},
        {"goal": "mean mask time, µs", "value": masks["mask_mean_us"], "at_most": GOAL_MASK_US},
    ]
    for goal in goals:
        is_met = goal["value"] >= goal["at_least"] if "at_least" in goal else goal["value"] <= goal["at_most"]
        goal["met"] = is_met
        print(f"\n{goal['goal']}: {goal['value']:.3f}: {'met' if is_met else 'MISSED'}")
    write_json(
        output_path(args, "structured_output"),
        {
            "benchmark": "structured_output",
            "environment": environment,
            "settings": {
                "rounds": args.rounds,
                "tokens": args.tokens,
                "layers": args.layers,
                "quantization": args.quantization,
                "batch_size": BATCH_SIZE,
                "vocabulary": args.ranks.name if args.ranks else "made-up tokens",
            },
            "goals": goals,
            "masks": masks,
            "tokens_per_second": speeds,
            "round_ratios": ratios,
        },
    )


if __name__ == "__main__":
    main()
