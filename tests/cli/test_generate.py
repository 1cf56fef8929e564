"""``octavo generate``: one prompt, or a JSONL file, without a server."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def model(checkpoint):
    return ["--model", str(checkpoint), "--kv-cache-memory-bytes", "1MiB", "--max-model-len", "64"]


def test_one_prompt_is_continued(octavo, model):
    first, second = (octavo("generate", "abc", *model, "--temperature", "0", "--max-tokens", "8") for _ in range(2))
    assert (first.exit_code, first.errors) == (0, [])
    assert first.out.strip()
    assert first.out == second.out


def test_one_message_is_answered(octavo, model):
    plain, chat = (
        octavo("generate", "abc", *model, "--temperature=0", "--max-tokens=8", *flags) for flags in ([], ["--chat"])
    )
    assert chat.exit_code == 0
    assert chat.out != plain.out


def test_a_file_is_answered_line_by_line_in_order(octavo, model, tmp_path):
    records = [
        {"id": "a", "prompt": "abc", "max_tokens": 2, "ignore_eos": True},
        {"id": "b", "messages": [{"role": "user", "content": "abc"}], "n": 2, "max_tokens": 3, "ignore_eos": True},
        {"id": "c", "prompt": "x" * 200},
        {"id": "d", "prompt": "abc", "temperature": -1},
        {"id": "e", "prompt": "abcd", "max_tokens": 1, "ignore_eos": True},
    ]
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")

    ran = octavo("generate", *model, "--input", str(source), "--output", str(target))

    results = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    assert ran.exit_code == 1
    assert ran.errors[-1] == f"octavo: 2 of 5 lines have an error; {target} says which"
    assert [{k: v for k, v in result.items() if k not in ("outputs", "error")} for result in results] == records
    assert [[output["num_tokens"] for output in result.get("outputs", [])] for result in results] == [
        [2],
        [3, 3],
        [],
        [],
        [1],
    ]
    assert "200 tokens" in results[2]["error"]
    assert results[3]["error"] == "temperature must be at least 0, not -1.0"


def test_a_file_without_errors_is_a_success(octavo, model, tmp_path):
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"prompt": "abc"}\n', encoding="utf-8")
    flags = ["--input", str(source), "--output", str(target), "--max-tokens", "2", "--temperature", "0"]
    ran = octavo("generate", *model, *flags)
    assert (ran.exit_code, ran.errors) == (0, [])
    assert json.loads(target.read_text(encoding="utf-8"))["outputs"][0]["num_tokens"] == 2


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "give either a prompt"),
        (["a", "--input", "in.jsonl"], "give either a prompt"),
        (["--input", "in.jsonl"], "give either a prompt"),
        (["--input", "/no/in.jsonl", "--output", "/no/out.jsonl"], "/no/in.jsonl: No such file or directory"),
        (["a", "--temperature", "-1"], "temperature must be at least 0, not -1.0"),
        (["a", "--max-tokens", "x"], "Invalid value for '--max-tokens'"),
        (["a", "--model", "/no/such/model"], "/no/such/model"),
        (["a", "--prot", "1"], "there is no --prot"),
    ],
)
def test_what_is_wrong_is_told_before_a_model_is_loaded(octavo, arguments, reason):
    ran = octavo("generate", *arguments)
    assert ran.exit_code == 2
    assert len(ran.errors) == 1
    assert reason in ran.errors[0]


def test_a_prompt_that_is_too_long_is_told(octavo, model):
    ran = octavo("generate", "x" * 200, *model)
    assert ran.exit_code == 2
    assert "200 tokens" in ran.errors[0]
