"""Whether the server's token counts are what was planned, and what the model's tokenizer says."""

from __future__ import annotations

from dataclasses import dataclass, field

from octavo.bench.load import Outcome
from octavo.bench.openai_client import Message
from octavo.bench.prompts import TokenCounter

_SAMPLED_REQUESTS = 16
_MOST_DIFFERENCE = 0.1


@dataclass(slots=True)
class _Planned:
    """Sums over the requests whose length was planned."""

    num_requests: int = 0
    num_different: int = 0
    planned_tokens: int = 0
    counted_tokens: int = 0

    def add(self, planned: int | None, counted: int | None) -> None:
        if planned is None or counted is None:
            return
        self.num_requests += 1
        self.num_different += planned != counted
        self.planned_tokens += planned
        self.counted_tokens += counted

    def describe(self, what: str) -> str:
        return (
            f"{self.num_different} of {self.num_requests} {what} have another length than planned: "
            f"{self.counted_tokens / self.num_requests:.1f} tokens on average by the server's usage, "
            f"{self.planned_tokens / self.num_requests:.1f} planned"
        )


@dataclass(slots=True)
class TokenAudit:
    """Compares counts while the answers come; ``warnings`` says what it found.

    Attributes:
        prompts_are_exact, answers_are_exact: whether the lengths were meant to be kept to the token.
        prompts_are_whole: whether a turn's prompt is all of its request.
        count: tokenizes prompts and texts; None if there is no tokenizer.
    """

    prompts_are_exact: bool
    answers_are_exact: bool
    prompts_are_whole: bool
    count: TokenCounter | None = None
    _prompts: _Planned = field(default_factory=_Planned)
    _answers: _Planned = field(default_factory=_Planned)
    _num_without_usage: int = 0
    _sample: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Take one request; failed ones do not count."""
        turn, answer = outcome.turn, outcome.answer
        if answer.error is not None:
            return
        self._prompts.add(turn.input_tokens, answer.input_tokens)
        self._answers.add(turn.output_tokens, answer.output_tokens)
        if answer.input_tokens is None or answer.output_tokens is None:
            self._num_without_usage += 1
        elif len(self._sample) < _SAMPLED_REQUESTS:
            self._sample.append(outcome)

    async def warnings(self) -> list[str]:
        """Return a sentence for each count that is not what it should be."""
        found = []
        if self.prompts_are_exact and self._prompts.num_different:
            found.append(self._prompts.describe("prompts"))
        if self.answers_are_exact and self._answers.num_different:
            found.append(self._answers.describe("answers") + "; does the server know ignore_eos?")
        if self._num_without_usage:
            found.append(
                f"the server gave no usage for {self._num_without_usage} answers: their streamed pieces were counted "
                "as output tokens, and their input tokens as planned"
            )
        if self.count is not None and self._sample:
            found += await self._tokenize_sample(self.count)
        return found

    async def _tokenize_sample(self, count: TokenCounter) -> list[str]:
        """Tokenize a few prompts, and the texts of a few answers.

        The text of an answer need not give the tokens that were sampled, but it gives about as many.
        """
        found = []
        if self.prompts_are_whole and not self.prompts_are_exact:
            prompts = [await _num_prompt_tokens(count, outcome) for outcome in self._sample]
            found += _compare("prompts", sum(prompts), sum(outcome.record.input_tokens for outcome in self._sample))
        if self.answers_are_exact:
            return found  # past its end a model puts out special tokens, which have no text
        beginning = len(await count("") or ())
        texts = [len(await count(outcome.answer.text) or ()) - beginning for outcome in self._sample]
        return found + _compare("answers", sum(texts), sum(outcome.record.output_tokens for outcome in self._sample))


async def _num_prompt_tokens(count: TokenCounter, outcome: Outcome) -> int:
    prompt = outcome.turn.prompt
    if isinstance(prompt, str):
        return len(await count(prompt) or ())
    messages: list[Message] = [part for part in prompt if not isinstance(part, int)]
    return len(await count(messages) or ()) if messages else len(prompt)


def _compare(what: str, counted: int, by_usage: int) -> list[str]:
    if abs(counted - by_usage) <= _MOST_DIFFERENCE * by_usage:
        return []
    return [
        f"the tokenizer counts {counted} tokens in a sample of the {what}, the server's usage says {by_usage}: "
        f"{counted / max(by_usage, 1):.2f} times as many"
    ]
