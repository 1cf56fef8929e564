"""What GPUs cost by the hour, and tokens therefore by the million.

The table that comes along is a dated copy of list prices; a file of one's own takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib import resources
from pathlib import Path

import msgspec
import yaml

from octavo.errors import ConfigError
from octavo.plan.hardware import Hardware, gpu_named
from octavo.plan.speed import Speed

EXAMPLE = '[{"gpu": "H100-SXM", "usd_per_hour": 2.50, "provider": "us", "date": "2026-01-31", "source": "contract 12"}]'


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The list price of one GPU.

    Attributes:
        gpu: name or alias of the catalogue.
        usd_per_hour: of one GPU, US dollars.
        provider: who asks for it, and for what offer.
        date: when.
        source: where it is written.
    """

    gpu: str
    usd_per_hour: float
    provider: str
    date: date
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a deployment costs, in US dollars.

    Attributes:
        per_hour: of all its GPUs.
        per_million_input, per_million_output: of tokens while it is kept busy: the hour divided by what prefill and
            decoding take of it.
    """

    price: Price
    per_hour: float
    per_million_input: float
    per_million_output: float


def built_in_prices() -> tuple[Price, ...]:
    """Return the table that comes along."""
    data = (resources.files("octavo.plan") / "prices.json").read_bytes()
    return msgspec.json.decode(data, type=tuple[Price, ...])


def read_prices(path: Path) -> tuple[Price, ...]:
    """Read a table of one's own: a JSON or YAML list of prices.

    Raises:
        ConfigError: the file is missing or broken, or names a GPU that is not in the catalogue.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    try:
        # JSON is YAML; a date in quotes is a text to one, and one without is a date to the other.
        prices = msgspec.convert(yaml.safe_load(data), type=tuple[Price, ...])
    except (msgspec.ValidationError, yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: {reason}. The file is a list like {EXAMPLE}") from error
    for price in prices:
        gpu_named(price.gpu)
        if price.usd_per_hour < 0:
            raise ConfigError(f"{path}: usd_per_hour of {price.gpu} is {price.usd_per_hour}; it must be at least 0")
    return prices


def price_of(hardware: Hardware, prices: Sequence[Price]) -> Price | None:
    """Return the first price of a GPU; None if there is none."""
    return next((price for price in prices if gpu_named(price.gpu).name == hardware.name), None)


def cost_of(price: Price, speed: Speed, *, num_gpus: int, num_replicas: int) -> Cost:
    """Return what ``num_replicas`` replicas on ``num_gpus`` GPUs cost."""
    per_hour = price.usd_per_hour * num_gpus
    per_replica_second = per_hour / num_replicas / 3600
    return Cost(
        price=price,
        per_hour=per_hour,
        per_million_input=per_replica_second * speed.prefill_s / speed.input_len * 1e6,
        per_million_output=per_replica_second * speed.decode_s * 1e6,
    )
