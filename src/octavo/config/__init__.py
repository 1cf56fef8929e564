"""Settings: one typed schema; the same field is a flag, an environment variable and a YAML key."""

from octavo.config.schema import EngineConfig, ServerConfig

__all__ = ["EngineConfig", "ServerConfig"]
