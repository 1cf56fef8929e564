"""``octavo serve``: one model over HTTP."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from octavo.cli.arguments import build_command
from octavo.cli.config_flags import CONFIG_OPTION, MODEL_ARGUMENT, config_options, given_flags
from octavo.config.schema import ServerConfig
from octavo.config.sources import load_config


def make_command() -> Any:
    """Return the command."""
    return build_command("serve", serve, config_options(ServerConfig))


def serve(model_argument: str | None = MODEL_ARGUMENT, config: Path | None = CONFIG_OPTION, **flags: Any) -> int:
    """Serve a model over HTTP with OpenAI's API, until SIGTERM or Ctrl-C.

    Without a model it serves octavo-nano, the model in the box. Every flag is also an environment variable
    (--max-model-len is OCTAVO_MAX_MODEL_LEN) and a key of the YAML file that --config names.
    """
    settings = load_config(ServerConfig, given_flags(model_argument, flags), config_file=config, environ=os.environ)
    from octavo.api.server import serve as serve_http  # a web framework that wrong settings need not wait for

    return serve_http(settings)
