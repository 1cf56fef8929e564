"""The adapter that a request asks for, under vLLM's name and with its fields."""

from __future__ import annotations

from pathlib import Path

import msgspec

from octavo.errors import RequestError


class LoRARequest(msgspec.Struct, frozen=True):
    """A LoRA adapter.

    Attributes:
        lora_name: what users call it.
        lora_int_id: its number, from 1 on; another adapter must have another one.
        lora_path: directory in the format of PEFT.

    Raises:
        RequestError: the name is empty or the number is not positive.
    """

    lora_name: str
    lora_int_id: int
    lora_path: str

    def __post_init__(self) -> None:
        if not self.lora_name:
            raise RequestError("lora_name must not be empty", param="lora_name")
        if type(self.lora_int_id) is not int or self.lora_int_id < 1:
            raise RequestError(f"lora_int_id must be a whole number from 1 on, not {self.lora_int_id!r}")

    @property
    def directory(self) -> Path:
        """Where the adapter's files are."""
        return Path(self.lora_path).expanduser()
