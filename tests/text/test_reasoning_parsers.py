"""Reasoning is told from the answer, however the text is cut; the oracle is what was written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.config import ServerConfig
from octavo.config.fields import settings_of
from octavo.text.reasoning_parsers import REASONING_FORMATS, ReasoningFormat, ReasoningParser
from tests.text.tool_parsers.reading import PLACES, cut

QWEN3, DEEPSEEK_R1 = REASONING_FORMATS["qwen3"], REASONING_FORMATS["deepseek_r1"]
WORDS = st.text(alphabet="ab <>/think\n你", max_size=20)


def read(parts: list[str], *, is_open: bool, style: ReasoningFormat = QWEN3) -> tuple[str, str]:
    parser = ReasoningParser(style, is_open=is_open)
    pairs = [*(parser.push(part) for part in parts), parser.finish()]
    return "".join(reasoning for reasoning, _ in pairs), "".join(content for _, content in pairs)


@given(thought=WORDS.filter(lambda text: "</think>" not in text), answer=WORDS, is_open=st.booleans(), places=PLACES)
def test_thought_and_answer_are_told_apart(thought: str, answer: str, is_open: bool, places: list[int]) -> None:
    if is_open and thought.lstrip().startswith("<think>"):
        return
    text = ("" if is_open else "<think>") + thought + "</think>" + answer
    assert read(cut(text, places), is_open=is_open) == (thought.strip(), answer.lstrip())


@given(text=WORDS, is_open=st.booleans(), places=PLACES)
def test_any_text_gives_the_same_however_it_is_cut(text: str, is_open: bool, places: list[int]) -> None:
    assert read(cut(text, places), is_open=is_open) == read([text], is_open=is_open)


@pytest.mark.parametrize(
    ("text", "is_open", "expected"),
    [
        ("no thought", False, ("", "no thought")),
        ("  a <think> later", False, ("", "  a <think> later")),
        ("<think>never ends ", False, ("never ends", "")),
        ("never ends </thi", True, ("never ends </thi", "")),
        ("<think>\nhm\n</think>\n\nyes ", True, ("hm", "yes ")),
        ("<thi", False, ("", "<thi")),
        ("", True, ("", "")),
    ],
)
def test_what_is_thought_and_what_is_not(text: str, is_open: bool, expected: tuple[str, str]) -> None:
    assert read([text], is_open=is_open) == read(list(text), is_open=is_open) == expected


@pytest.mark.parametrize(
    ("style", "prompt_end", "is_open"),
    [
        (QWEN3, "<|im_start|>assistant\n", False),
        (QWEN3, "<|im_start|>assistant\n<think>\n", True),
        (QWEN3, "<|im_start|>assistant\n<think>\n\n</think>\n\n", False),
        (DEEPSEEK_R1, "<｜Assistant｜>", True),
        (DEEPSEEK_R1, "<｜Assistant｜><think>\n", True),
        (DEEPSEEK_R1, "<｜Assistant｜></think>", False),
    ],
)
def test_the_prompt_says_whether_the_answer_begins_in_a_thought(
    style: ReasoningFormat, prompt_end: str, is_open: bool
) -> None:
    assert style.is_open_after(prompt_end) is is_open


def test_the_settings_name_all_formats() -> None:
    assert set(settings_of(ServerConfig)["reasoning_parser"].choices) == set(REASONING_FORMATS)
