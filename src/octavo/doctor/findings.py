"""What checks find: errors, warnings, and what could not be checked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from octavo.errors import ConfigError, ModelError

Severity = Literal["error", "warning", "not checked"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to tell.

    Attributes:
        severity: ``error`` if ``octavo serve`` would refuse to start, ``warning`` if it would start and somebody might
            regret it.
        check: what was looked at, in a word or two.
        message: what was found, with the value, and what to do about it.
    """

    severity: Severity
    check: str
    message: str


@dataclass(slots=True)
class Findings:
    """Everything that was found so far, in the order of the checks."""

    items: list[Finding] = field(default_factory=list)

    def error(self, check: str, message: str) -> None:
        """Add an error."""
        self.items.append(Finding("error", check, message))

    def warning(self, check: str, message: str) -> None:
        """Add a warning."""
        self.items.append(Finding("warning", check, message))

    def not_checked(self, check: str, message: str) -> None:
        """Add something that could not be checked."""
        self.items.append(Finding("not checked", check, message))

    @contextlib.contextmanager
    def catching(self, check: str) -> Iterator[None]:
        """Turn the refusal that a server would end with into an error, and go on after the block."""
        try:
            yield
        except (ConfigError, ModelError) as refusal:
            self.error(check, str(refusal))

    def of(self, severity: Severity) -> list[Finding]:
        """Return the findings of one severity."""
        return [finding for finding in self.items if finding.severity == severity]
