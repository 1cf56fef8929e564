#!/usr/bin/env python3
"""``octavo validate`` for runbooks: ``python scripts/validate_model_config.py FILE``, with the same exit codes."""

from __future__ import annotations

import sys

from octavo.cli import main

if __name__ == "__main__":
    sys.exit(main(["validate", *sys.argv[1:]]))
