"""Workloads ask what their settings say."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from octavo.bench.prompts import PromptMaker
from octavo.bench.serve_settings import Workload
from octavo.bench.words import WORDS
from octavo.bench.workload_options import OPTIONS, make_workload
from octavo.bench.workloads import Conversation, Conversations, make_conversations
from octavo.errors import ConfigError

_CHAT = PromptMaker(WORDS, is_chat=True, overhead=5)
_TOKEN_IDS = PromptMaker(WORDS, is_chat=False, token_ids=tuple(range(100, 100 + len(WORDS))))


def conversations(
    workload: Workload, maker: PromptMaker = _TOKEN_IDS, seed: int = 0, max_requests: int | None = 50
) -> Conversations:
    return make_conversations(workload, maker, seed=(seed,), max_requests=max_requests)


def token_ids(conversation: Conversation) -> list[Any]:
    (turn,) = conversation.turns
    assert isinstance(turn.prompt, list)
    return turn.prompt


def test_lengths_are_uniform_around_the_wanted_one() -> None:
    workload = Workload(input_len=100, output_len=40, range_ratio=0.25)
    turns = [one.turns[0] for one in conversations(workload, max_requests=400).items]
    lengths = [len(turn.prompt) for turn in turns]
    assert lengths == [turn.input_tokens for turn in turns]
    assert (min(lengths), max(lengths)) == (75, 125)
    assert {turn.output_tokens for turn in turns} == set(range(30, 51))


def test_length_of_a_message_leaves_room_for_the_chat_template() -> None:
    (one,) = conversations(Workload(input_len=100), _CHAT, max_requests=1).items
    (message,) = one.turns[0].prompt
    assert len(message["content"].split()) == 95
    assert one.turns[0].input_tokens == 100


def test_prompt_shorter_than_the_chat_template_is_warned_of() -> None:
    short = conversations(Workload(input_len=3), _CHAT)
    assert "prompts of 3 tokens were asked for, but the shortest possible one has 6" in short.warnings[0]


def test_prompts_without_end_are_drawn_while_they_are_needed() -> None:
    endless = conversations(Workload(input_len=4), max_requests=None)
    assert endless.num_requests is None
    assert len(list(itertools.islice(iter(endless.items), 3))) == 3


def test_prefixes_are_shared_and_the_rest_is_not() -> None:
    workload = Workload(dataset_name="shared-prefix", num_prefixes=3, prefix_len=20, input_len=10)
    prompts = [token_ids(one) for one in conversations(workload).items]
    assert {len(prompt) for prompt in prompts} == {30}
    assert len({tuple(prompt[:20]) for prompt in prompts}) == 3
    assert len({tuple(prompt[20:]) for prompt in prompts}) == 50


def test_conversations_are_cut_at_the_number_of_requests() -> None:
    workload = Workload(dataset_name="multi-turn", num_turns=4, input_len=5, think_time_s=2)
    found = list(conversations(workload, max_requests=10).items)
    assert [len(one.turns) for one in found] == [4, 4, 2]
    assert [turn.input_tokens for turn in found[0].turns] == [5, None, None, None]
    assert found[0].think_time_s == 2


def write_mooncake(path: Path, *requests: tuple[int, int, list[int]]) -> Path:
    lines = [
        {"timestamp": time_ms, "input_length": length, "output_length": 7, "hash_ids": hash_ids}
        for time_ms, length, hash_ids in requests
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_same_hash_ids_of_a_trace_are_the_same_tokens(tmp_path: Path) -> None:
    path = write_mooncake(
        tmp_path / "t.jsonl", (0, 1100, [1, 2, 3]), (500, 1500, [1, 2, 4]), (900, 600, [5, 2]), (1000, 1100, [1, 2, 3])
    )
    workload = Workload(dataset_name="trace", dataset_path=path, trace_speed=2)
    found = list(conversations(workload, max_requests=None).items)
    first, second, third, fourth = map(token_ids, found)
    assert list(map(len, (first, second, third, fourth))) == [1100, 1500, 600, 1100]
    assert first[:1024] == second[:1024]
    assert first[1024:] != second[1024:1100]
    assert third[512:600] == first[512:600]
    assert third[:512] != first[:512]
    assert first == fourth
    assert [one.arrival_s for one in found] == [0, 0.25, 0.45, 0.5]
    assert {one.turns[0].output_tokens for one in found} == {7}


def test_requests_of_a_trace_that_are_too_long_are_shortened_and_counted(tmp_path: Path) -> None:
    path = write_mooncake(tmp_path / "t.jsonl", (0, 1100, [1, 2, 3]), (1, 50, [1]))
    workload = Workload(dataset_name="trace", dataset_path=path, max_model_len=600)
    found = conversations(workload)
    assert "1 of 2 requests of the trace were shortened to 600 tokens" in found.warnings[0]
    assert [len(token_ids(one)) for one in found.items] == [593, 50]


def test_lines_of_a_file_are_asked_in_order_and_again_if_more_are_wanted(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    path.write_text(f'{{"prompt": "One", "output_tokens": 3, "id": 7}}\n\n{json.dumps({"messages": messages})}\n')
    workload = Workload(dataset_name="jsonl", dataset_path=path, output_len=99)
    found = conversations(workload, _CHAT, max_requests=3)
    turns = [one.turns[0] for one in found.items]
    one = [{"role": "user", "content": "One"}]
    assert [turn.prompt for turn in turns] == [one, messages, one]
    assert [turn.output_tokens for turn in turns] == [3, 99, 3]
    assert not found.sets_output_length
    assert conversations(workload, _CHAT, max_requests=None).num_requests == 2


@pytest.mark.parametrize(
    ("line", "is_chat", "message"),
    [
        ("{}", True, "line 1: the line must have either 'prompt' or 'messages'"),
        ('{"messages": []}', False, "line 1: 'messages' need --endpoint /v1/chat/completions"),
        ('{"prompt": [1, 2]}', True, "line 1: token ids need --endpoint /v1/completions"),
        ("{", True, "line 1: "),
        ("", True, "has no prompts"),
    ],
)
def test_wrong_line_is_told(tmp_path: Path, line: str, is_chat: bool, message: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(line)
    with pytest.raises(ConfigError, match=message):
        conversations(Workload(dataset_name="jsonl", dataset_path=path), _CHAT if is_chat else _TOKEN_IDS)


def test_options_have_the_names_of_vllm() -> None:
    options = dict.fromkeys(OPTIONS) | {"prefix_repetition_suffix_len": 7, "prefix_repetition_prefix_len": 9}
    workload = make_workload("prefix_repetition", options)
    assert (workload.dataset_name, workload.input_len, workload.prefix_len) == ("shared-prefix", 7, 9)
    assert make_workload("random", {"random_input_len": 5}).input_len == 5


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("randon", {}, "there is no dataset 'randon'; did you mean random"),
        ("random", {"num_turns": 3}, "--num-turns is not for dataset random: that one has --random-input-len"),
        ("trace", {}, "dataset trace needs a file: name it with --dataset-path"),
        ("random", {"random_input_len": 0}, "input_len must be at least 1, not 0"),
        ("random", {"random_range_ratio": 1.0}, "must be at least 0 and below 1"),
        ("multi-turn", {"think_time": -1.0}, "think time must be 0 s or more"),
    ],
)
def test_wrong_options_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_workload(name, options)
