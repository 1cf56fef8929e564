"""Ctrl-C for commands that a test starts."""

from __future__ import annotations

import signal


def hear_ctrl_c() -> None:
    """Undo what a shell does to commands in the background: they, and all that they start, ignore SIGINT.

    For ``preexec_fn`` of a process.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
