"""``python -m octavo`` is ``octavo``."""

from __future__ import annotations

import sys

from octavo.cli import main

if __name__ == "__main__":
    sys.exit(main(prog_name="python -m octavo"))
