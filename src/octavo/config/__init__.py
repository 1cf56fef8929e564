"""Settings: one typed schema; the same field is a flag, an environment variable and a YAML key."""

from octavo.config.schema import DEFAULT_STEP_TOKENS, EngineConfig, ServerConfig

__all__ = ["DEFAULT_STEP_TOKENS", "EngineConfig", "ServerConfig"]
