"""What a request for a vector or a score may ask for: vLLM's ``PoolingParams``."""

from __future__ import annotations

from dataclasses import dataclass

from octavo.errors import RequestError


@dataclass(frozen=True, slots=True)
class PoolingParams:
    """How the result of a request is made.

    Attributes:
        dimensions: the vector is cut to its first numbers, as models trained for that allow (Matryoshka,
            arXiv:2205.13147); None is the whole vector.
        use_activation: scale vectors to length 1, and give scores through the model's activation; None is what the
            model's files say. A vector that was cut is always scaled again where a whole one would be.
        truncate_prompt_tokens: keep this many tokens of a longer text, special tokens included; -1 is as many as the
            model takes. None refuses texts that are too long.

    Raises:
        RequestError: a value is out of range.
    """

    dimensions: int | None = None
    use_activation: bool | None = None
    truncate_prompt_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.dimensions is not None and (type(self.dimensions) is not int or self.dimensions < 1):
            raise RequestError(f"dimensions must be at least 1, not {self.dimensions!r}", param="dimensions")
        limit = self.truncate_prompt_tokens
        if limit is not None and (type(limit) is not int or (limit < 1 and limit != -1)):
            raise RequestError(
                f"truncate_prompt_tokens must be at least 1, or -1 for what the model takes, not {limit!r}",
                param="truncate_prompt_tokens",
            )
