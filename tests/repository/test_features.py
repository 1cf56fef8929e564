"""The page of features names everything that requests can have, and tests that exist."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

from octavo.api.openai.requests import ChatCompletionRequest, CompletionRequest
from octavo.engine.sampling_params import SamplingParams

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/features.md").read_text(encoding="utf-8")
CODE = set(re.findall(r"`([^`\n]+)`", PAGE))
PROOFS = sorted(code for code in CODE if "::" in code and code != "file::test")


@functools.cache
def names_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("proof", PROOFS)
def test_the_test_that_shows_a_feature_exists(proof: str) -> None:
    file, _, name = proof.partition("::")
    assert name in names_in(file)


def test_every_row_has_a_proof() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("|") and not line.startswith(("| Feature", "|---"))]
    assert [row for row in rows if row.rstrip(" |").rpartition("|")[2].strip(" `") not in PROOFS] == []


@pytest.mark.parametrize("kind", [ChatCompletionRequest, CompletionRequest])
def test_every_field_of_a_request_is_named(kind: type[ChatCompletionRequest | CompletionRequest]) -> None:
    assert {field.alias or name for name, field in kind.model_fields.items()} - CODE == set()


def test_every_sampling_parameter_is_named() -> None:
    assert set(SamplingParams.__struct_fields__) - CODE == set()
