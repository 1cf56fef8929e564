"""Makes what speculative decoding needs from its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from octavo.engine.speculation.ngram import NgramProposer
from octavo.engine.speculation.speculator import Speculator
from octavo.errors import ConfigError

if TYPE_CHECKING:
    from octavo.config.speculative import SpeculativeConfig


def make_speculator(config: SpeculativeConfig) -> Speculator:
    """Return the source of drafts that a configuration asks for.

    Raises:
        ConfigError: this version does not have the method.
    """
    if config.method != "ngram":
        raise ConfigError(f"speculative_config: method {config.method} is not supported; ngram is")
    shortest, longest = config.ngram_bounds
    proposer = NgramProposer(min_length=shortest, max_length=longest)
    return Speculator(proposer, num_tokens=config.num_speculative_tokens)
