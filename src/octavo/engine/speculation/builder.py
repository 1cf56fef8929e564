"""Makes what speculative decoding needs from its settings."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from octavo.engine.speculation.ngram import NgramProposer
from octavo.engine.speculation.pacing import Pacer
from octavo.engine.speculation.speculator import Speculator
from octavo.engine.speculation.step_costs import measure_step_costs
from octavo.engine.speculation.suffix import SuffixProposer

if TYPE_CHECKING:
    from octavo.config import EngineConfig
    from octavo.config.speculative import SpeculativeConfig
    from octavo.engine.runner import Runner
    from octavo.engine.speculation.proposer import Proposer

logger = logging.getLogger(__name__)


def make_speculator(config: EngineConfig, runner: Runner, max_model_len: int) -> Speculator | None:
    """Return the source of drafts that a configuration asks for; None if it asks for none, or no draft ever fits.

    Args:
        runner: on which steps are timed; nothing may have been computed for any request yet.
    """
    speculative = config.speculative_config
    max_num_tokens = min(config.step_tokens(runner.device.type), max_model_len)
    if speculative is None or max_num_tokens < 2:
        return None
    costs = measure_step_costs(runner, runner.drafts, block_size=config.block_size, max_num_tokens=max_num_tokens)
    logger.info(
        "speculative decoding (%s): a step of 1 token takes %.1f ms, one of %d tokens %.1f ms",
        speculative.method,
        1e3 * costs.seconds[0],
        costs.num_tokens[-1],
        1e3 * costs.seconds[-1],
    )
    proposer = runner.drafts or make_proposer(speculative)
    return Speculator(proposer, num_tokens=speculative.num_speculative_tokens, pacer=Pacer(costs))


def make_proposer(config: SpeculativeConfig) -> Proposer:
    """Return a proposer that computes nothing on the device."""
    if config.method == "suffix":
        return SuffixProposer(
            max_depth=config.suffix_decoding_max_tree_depth,
            max_cached_requests=config.suffix_decoding_max_cached_requests,
            max_spec_factor=config.suffix_decoding_max_spec_factor,
            min_token_prob=config.suffix_decoding_min_token_prob,
        )
    shortest, longest = config.ngram_bounds
    return NgramProposer(min_length=shortest, max_length=longest)
