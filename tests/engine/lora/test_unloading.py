"""An adapter that is unloaded lives on for the requests that have it, and leaves nothing behind for a successor."""

from __future__ import annotations

from pathlib import Path

import pytest

from octavo.config import EngineConfig
from octavo.engine.builder import build_engine
from octavo.engine.core import EngineCore
from octavo.engine.lora.request import LoRARequest
from octavo.engine.messages import EngineRequest
from octavo.engine.sampling_params import SamplingParams
from octavo.engine.structured.grammar import write_grammar
from octavo.engine.structured.params import StructuredOutputsParams
from octavo.models.config import ModelConfig

PROMPT = list(range(50))
NUM_TOKENS = 10


@pytest.fixture
def core(checkpoint: Path) -> EngineCore:
    config = EngineConfig(model=str(checkpoint), enable_lora=True, cpu_threads=1, kv_cache_memory_bytes=2**22)
    return build_engine(config, checkpoint, ModelConfig.from_directory(checkpoint), 128).core


def add(core: EngineCore, lora_id: int, *, grammar: str = "") -> None:
    params = SamplingParams(temperature=0, ignore_eos=True)
    core.add(
        EngineRequest(
            request_id=str(lora_id),
            prompt_token_ids=PROMPT,
            sampling_params=params,
            max_tokens=NUM_TOKENS,
            eos_token_ids=[],
            seed=0,
            lora_id=lora_id,
            grammar=grammar,
        )
    )


def finish(core: EngineCore) -> tuple[list[int], int]:
    """Return the tokens of the only request, and how many tokens of its prompt were cached."""
    updates = []
    while core.has_work:
        updates += core.step().updates
    return [token for update in updates for token in update.token_ids], updates[0].num_cached_tokens


def test_a_running_request_ends_with_the_adapter_that_it_began_with(core: EngineCore, adapter: Path) -> None:
    core.load_adapter(LoRARequest("name", 1, str(adapter)))
    add(core, 1)
    expected, _ = finish(core)
    add(core, 1)
    begun = [token for _ in range(3) for update in core.step().updates for token in update.token_ids]
    core.unload_adapter(1)
    rest, _ = finish(core)
    assert [*begun, *rest] == expected
    with pytest.raises(ValueError, match="there is no adapter 1"):
        add(core, 1)


def test_a_waiting_request_keeps_its_adapter(core: EngineCore, adapter: Path) -> None:
    core.load_adapter(LoRARequest("name", 1, str(adapter)))
    add(core, 1)
    core.unload_adapter(1)
    tokens, _ = finish(core)
    assert len(tokens) == NUM_TOKENS


def test_a_request_whose_grammar_is_being_compiled_keeps_its_adapter(core: EngineCore, adapter: Path) -> None:
    core.load_adapter(LoRARequest("name", 1, str(adapter)))
    add(core, 1, grammar=write_grammar(StructuredOutputsParams(regex="[a-z]{40}")))
    core.unload_adapter(1)
    tokens, _ = finish(core)
    assert len(tokens) == NUM_TOKENS


def test_an_aborted_request_lets_its_adapter_go(core: EngineCore, adapter: Path, other_adapter: Path) -> None:
    core.load_adapter(LoRARequest("name", 1, str(adapter)))
    add(core, 1)
    core.step()
    core.unload_adapter(1)
    core.abort(["1"])
    core.load_adapter(LoRARequest("name", 2, str(other_adapter)))
    add(core, 2)
    finish(core)
    with pytest.raises(ValueError, match="there is no adapter 1"):
        add(core, 1)


def test_nothing_cached_is_reused_by_a_successor_of_the_same_name(
    core: EngineCore, adapter: Path, other_adapter: Path
) -> None:
    core.load_adapter(LoRARequest("name", 1, str(adapter)))
    add(core, 1)
    first, _ = finish(core)
    core.unload_adapter(1)
    core.load_adapter(LoRARequest("name", 2, str(other_adapter)))
    add(core, 2)
    second, num_cached = finish(core)
    assert num_cached == 0
    assert second != first


def test_an_adapter_takes_no_memory_after_it_was_dropped(core: EngineCore, adapter: Path) -> None:
    core.load_adapter(LoRARequest("name", 1, str(adapter)))
    core.unload_adapter(1)
    model = core.runner.model  # type: ignore[attr-defined]
    assert not any(layer._deltas for layer in model.modules() if hasattr(layer, "_deltas"))
