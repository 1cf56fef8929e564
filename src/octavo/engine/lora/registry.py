"""The adapters that clients of an engine can ask for, by name. No torch: the engine process holds their weights."""

from __future__ import annotations

from collections.abc import Iterable

from octavo.engine.lora.request import LoRARequest
from octavo.errors import RequestError


class AdapterRegistry:
    """Names and numbers of adapters. A number is given once only, so what it stood for is never mixed up.

    Args:
        modules: name and path of each adapter that is there from the start.
    """

    def __init__(self, modules: Iterable[tuple[str, str]] = ()) -> None:
        self._num_given = 0
        self._by_name: dict[str, LoRARequest] = {}
        for name, path in modules:
            self.add(self.number(name, path))

    def number(self, name: str, path: str) -> LoRARequest:
        """Give a number to an adapter that is about to be loaded.

        Raises:
            RequestError: there is one of this name.
        """
        if name in self._by_name:
            raise RequestError(
                f"The LoRA adapter {name!r} is loaded already. Unload it first, or give the other one another name.",
                param="lora_name",
            )
        self._num_given += 1
        return LoRARequest(name, self._num_given, path)

    def add(self, request: LoRARequest) -> None:
        """Make an adapter known that the engine has loaded."""
        self._by_name[request.lora_name] = request

    def remove(self, name: str) -> LoRARequest | None:
        """Forget an adapter, if there is one of this name."""
        return self._by_name.pop(name, None)

    def remove_number(self, number: int) -> LoRARequest | None:
        """Forget an adapter by its number, if it is known."""
        found = [request for request in self._by_name.values() if request.lora_int_id == number]
        return self.remove(found[0].lora_name) if found else None

    def find(self, name: str) -> LoRARequest | None:
        """Return the adapter of a name, if there is one."""
        return self._by_name.get(name)

    def __contains__(self, request: LoRARequest) -> bool:
        return self._by_name.get(request.lora_name) == request

    def all(self) -> list[LoRARequest]:
        """Return the adapters in the order in which they were added."""
        return list(self._by_name.values())
