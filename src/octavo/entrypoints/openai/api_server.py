"""``python -m octavo.entrypoints.openai.api_server --model …`` is ``octavo serve --model …``, as vLLM users type it."""

from __future__ import annotations

import sys

from octavo.cli import main

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
