"""Angles that do not depend on what else is computed in the step."""

from __future__ import annotations

from dataclasses import replace

import torch

from octavo.models.layers.parameters import Placement
from octavo.models.layers.rotary import RotaryEmbedding
from octavo.models.quantization.base import Dense
from octavo.models.rope_config import RopeConfig

FLOAT32 = Placement(torch.float32, torch.device("cpu"), linear_format=Dense(), head_format=Dense())
DYNAMIC = RopeConfig("dynamic", factor=2.0, original_max_position_embeddings=16)


def test_dynamic_scaling_leaves_short_sequences_as_they_are() -> None:
    positions, prompt_lens = torch.arange(16), torch.full((16,), 9)
    plain = RotaryEmbedding(RopeConfig(), 8, FLOAT32).cos_sin(positions, prompt_lens)
    scaled = RotaryEmbedding(DYNAMIC, 8, FLOAT32).cos_sin(positions, prompt_lens)
    torch.testing.assert_close(scaled, plain)


def test_dynamic_scaling_of_a_token_depends_on_its_own_request_alone() -> None:
    rotary = RotaryEmbedding(DYNAMIC, 8, FLOAT32)
    # A long prompt, a short one, and a decode step of a third request, in one batch and each alone.
    positions = torch.tensor([3, 39, 3, 30])
    prompt_lens = torch.tensor([40, 40, 5, 12])
    together = rotary.cos_sin(positions, prompt_lens)
    for index in range(4):
        alone = rotary.cos_sin(positions[index : index + 1], prompt_lens[index : index + 1])
        torch.testing.assert_close(tuple(part[index : index + 1] for part in together), alone, atol=0, rtol=0)
    assert not torch.equal(together[0][0], together[0][2])


def test_angles_come_in_the_models_type() -> None:
    rotary = RotaryEmbedding(RopeConfig(), 8, replace(FLOAT32, dtype=torch.bfloat16))
    assert {part.dtype for part in rotary.cos_sin(torch.arange(3), torch.full((3,), 3))} == {torch.bfloat16}
    assert rotary.inverse_frequencies.dtype == torch.float32
