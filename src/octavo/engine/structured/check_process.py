"""The process in which grammars of strangers are tried first: ``python -m octavo.engine.structured.check_process``.

One JSON string a line on standard input, a grammar; one JSON string a line on standard output, what is wrong with it,
or an empty one. Its memory is bounded, and its stack is a small part of that which the engine has: a grammar that
would bring the engine down ends this process instead.
"""

from __future__ import annotations

import json
import resource
import sys
import threading

from llguidance import LLMatcher

from octavo.engine.structured.limits import parser_limits

_MAX_MEMORY_BYTES = 2**30
_STACK_BYTES = 1024 * 1024


def main() -> None:
    """Answer until standard input ends."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    threading.stack_size(_STACK_BYTES)
    worker = threading.Thread(target=_answer_all)
    worker.start()
    worker.join()


def _answer_all() -> None:
    limits = parser_limits()
    for line in sys.stdin:
        is_wrong, messages = LLMatcher.validate_grammar_with_warnings(json.loads(line), limits=limits)
        sys.stdout.write(json.dumps(messages[0] if is_wrong else "") + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
