from __future__ import annotations

from octavo.api.openai.logprobs import chat_logprobs, completion_logprobs
from octavo.engine.outputs import CompletionOutput, Logprob


class Bytes:
    """Stands for a tokenizer whose token ids are byte values."""

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id])

    def token_text(self, token_id: int) -> str:
        return bytes([token_id]).decode(errors="replace")


OUTPUT = CompletionOutput(
    index=0,
    text="cb",
    token_ids=[99, 98],
    logprobs=[
        {99: Logprob(-3.0, 3, "c"), 97: Logprob(-0.5, 1, "a"), 98: Logprob(-1.0, 2, "b")},
        {98: Logprob(-0.25, 1, "b"), 97: Logprob(-2.0, 2, "a")},
    ],
)


def test_chat_logprobs_have_the_most_likely_tokens_by_rank() -> None:
    logprobs = chat_logprobs(OUTPUT, 2, Bytes())
    assert logprobs is not None
    first, second = logprobs.content
    assert (first.token, first.logprob, first.bytes) == ("c", -3.0, [99])
    assert [top.token for top in first.top_logprobs] == ["a", "b"]
    assert [(top.token, top.bytes) for top in second.top_logprobs] == [("b", [98]), ("a", [97])]


def test_chat_logprobs_without_top_have_the_sampled_token_only() -> None:
    logprobs = chat_logprobs(OUTPUT, 0, Bytes())
    assert logprobs is not None
    assert [entry.top_logprobs for entry in logprobs.content] == [[], []]
    assert chat_logprobs(OUTPUT, None, Bytes()) is None


def test_completion_logprobs_are_columns_with_offsets_into_the_whole_text() -> None:
    logprobs = completion_logprobs(OUTPUT.token_ids, OUTPUT.logprobs or [], 10, Bytes())
    assert logprobs.tokens == ["c", "b"]
    assert logprobs.token_logprobs == [-3.0, -0.25]
    assert logprobs.top_logprobs == [{"c": -3.0, "a": -0.5, "b": -1.0}, {"b": -0.25, "a": -2.0}]
    assert logprobs.text_offset == [10, 11]


def test_completion_logprobs_name_a_part_of_a_character_by_its_bytes() -> None:
    part = CompletionOutput(
        index=0, text="", token_ids=[228], logprobs=[{228: Logprob(-1.0, 1, "\ufffd"), 229: Logprob(-2.0, 2, "\ufffd")}]
    )
    logprobs = completion_logprobs(part.token_ids, part.logprobs or [], 0, Bytes())
    assert logprobs.tokens == ["bytes:\\xe4"]
    assert logprobs.top_logprobs == [{"bytes:\\xe4": -1.0, "bytes:\\xe5": -2.0}]
    assert logprobs.text_offset == [0]
