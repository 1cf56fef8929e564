"""Whether a server can answer requests now, and why not."""

from __future__ import annotations

from octavo.engine.async_llm import AsyncLLM


class Readiness:
    """What probes are told and what the gate before the model's routes asks.

    Attributes:
        is_stopping: set once the server has been told to end; it then takes no new requests while it drains.
    """

    def __init__(self, llm: AsyncLLM) -> None:
        self._llm = llm
        self.is_stopping = False

    def unavailable_reason(self) -> str | None:
        """Return why requests cannot be answered now; None if they can."""
        if self.is_stopping or self._llm.state == "stopping":
            return "The server is shutting down and takes no more requests."
        if self._llm.state == "starting":
            return "The model is being loaded. Try again soon."
        if self._llm.state == "dead":
            return f"The engine is not running: {self._llm.cause}."
        return None
