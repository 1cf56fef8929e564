from __future__ import annotations

import pytest
import torch
from torch import Tensor

from octavo import kernels
from octavo.kernels.dispatch import Implementation, Operation


def double(x: Tensor) -> Tensor:
    return x * 2


def triple(x: Tensor) -> Tensor:
    return x * 3


def test_first_implementation_that_takes_the_input_runs() -> None:
    only_half = Implementation("half", triple, dtypes=frozenset({torch.float16}))
    only_cuda = Implementation("cuda", triple, device_types=frozenset({"cuda"}))
    operation = Operation("scale", [only_half, only_cuda, Implementation("any", double)])
    assert operation(torch.ones(1)).item() == 2
    assert operation(torch.ones(1, dtype=torch.float16)).item() == 3


def test_input_that_nothing_takes_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"no implementation of silu_and_mul takes torch\.int64 on cpu"):
        kernels.silu_and_mul(torch.ones(2, 4, dtype=torch.int64))


def test_table_names_each_operation_with_what_it_runs_on() -> None:
    rows = kernels.describe()
    references = [row for row in rows if row.implementation == "reference"]
    assert [row.operation for row in references] == [
        "rms_norm",
        "silu_and_mul",
        "gelu_tanh_and_mul",
        "rotary_write_kv",
        "paged_attention",
        "varlen_attention",
        "sample_tokens",
        "apply_penalties",
        "apply_token_bitmask",
        "top_logprobs",
        "int8_linear",
        "int4_linear",
        "int8_groups_linear",
    ]
    assert {(row.device_types, row.dtypes) for row in references} == {
        (("cpu", "cuda"), ("bfloat16", "float16", "float32"))
    }
    native = [row for row in rows if row.implementation == "native"]
    assert {(row.device_types, row.dtypes) for row in native} == {(("cpu",), ("float32",))}
