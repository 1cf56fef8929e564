"""The catalogue of GPUs: how much they remember, how fast they read, how fast they compute.

The figures are those of the vendors' data sheets for dense matrices; data sheets often print the double of it, "with
sparsity", first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import msgspec

from octavo.config import DEFAULT_STEP_TOKENS
from octavo.errors import ConfigError, nearest_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """One accelerator.

    Attributes:
        memory_bytes: what the driver reports in total.
        bandwidth: bytes of its memory that it reads each second.
        flops: operations each second for dense matrices by type: fp32, tf32, bf16, fp16, fp8, int8, fp4; a type that is
            not there is not computed natively.
        link: what connects it to its neighbours.
        link_bandwidth: bytes each second that one GPU sends to its neighbours (one direction).
        source: where the figures are from.
    """

    name: str
    memory_bytes: int
    bandwidth: float
    flops: Mapping[str, float]
    link: str
    link_bandwidth: float
    source: str
    is_cpu: bool = False

    @property
    def has_bfloat16(self) -> bool:
        """Whether it computes in bfloat16."""
        return self.is_cpu or "bf16" in self.flops

    @property
    def default_step_tokens(self) -> int:
        """Tokens that the engine computes in one step at most, unless it is told otherwise."""
        return DEFAULT_STEP_TOKENS["cpu" if self.is_cpu else "cuda"]

    def flops_of(self, dtype: str) -> float:
        """Return the operations each second for float32, bfloat16, float16, fp8, int8 or fp4.

        What the hardware lacks runs in the nearest wider type: fp4 and fp8 weights are unpacked to 16 bits, and 16-bit
        types that are missing run as the other one or as float32.
        """
        for name in _FALLBACKS[dtype]:
            if name in self.flops:
                return self.flops[name]
        raise ConfigError(f"the catalogue has no speed of {self.name} for {dtype}")


# float32 means true float32: PyTorch does not use TF32 for matrix products unless it is told to.
_FALLBACKS: Mapping[str, tuple[str, ...]] = {
    "float32": ("fp32",),
    "bfloat16": ("bf16", "fp32"),
    "float16": ("fp16", "bf16", "fp32"),
    "fp8": ("fp8", "bf16", "fp16", "fp32"),
    "int8": ("int8", "bf16", "fp16", "fp32"),
    "fp4": ("fp4", "fp8", "bf16", "fp16", "fp32"),
}


def cpu_hardware(memory_bytes: int) -> Hardware:
    """Return this machine's processor. How fast it is has to be measured."""
    return Hardware(
        name="cpu", memory_bytes=memory_bytes, bandwidth=0, flops={}, link="", link_bandwidth=0, source="", is_cpu=True
    )


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One GPU in ``gpus.json``, in the units of data sheets."""

    name: str
    memory_gb: int
    memory_mib: int
    bandwidth_gb_s: float
    tflops: dict[str, float]
    link: str
    link_gb_s: float
    source: str
    aliases: tuple[str, ...] = ()
    note: str = ""


class _Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    about: str
    gpus: tuple[_Entry, ...]


@cache
def _catalogue() -> _Catalogue:
    data = (resources.files("octavo.plan") / "gpus.json").read_bytes()
    return msgspec.json.decode(data, type=_Catalogue)


@cache
def gpu_catalogue() -> Mapping[str, Hardware]:
    """Return all GPUs by name, in the order of the catalogue."""
    return {
        entry.name: Hardware(
            name=entry.name,
            memory_bytes=entry.memory_mib * 2**20,
            bandwidth=entry.bandwidth_gb_s * 1e9,
            flops={dtype: tflops * 1e12 for dtype, tflops in entry.tflops.items()},
            link=entry.link,
            link_bandwidth=entry.link_gb_s * 1e9 / 2,  # data sheets add up both directions
            source=entry.source,
        )
        for entry in _catalogue().gpus
    }


def gpu_named(name: str) -> Hardware:
    """Return a GPU by its name or an alias; case, spaces, dashes and the vendor's name do not matter.

    Raises:
        ConfigError: there is none of this name.
    """
    names = {_key(alias): entry.name for entry in _catalogue().gpus for alias in (entry.name, *entry.aliases)}
    key = _key(name)
    if key in names:
        return gpu_catalogue()[names[key]]
    near = nearest_name(key, names)
    raise ConfigError(
        f"there is no GPU {name!r} in the catalogue"
        + (f"; did you mean {names[near]}?" if near else "")
        + " (octavo plan --list-gpus shows all)"
    )


def _key(name: str) -> str:
    key = "".join(character for character in name.lower() if character.isalnum())
    return key.removeprefix("nvidia").removeprefix("amd")
