"""From a ``config.json`` to a ModelShape: one reader a family, and the table of all families."""

from octavo.plan.families.registry import read_model_shape, supported_families

__all__ = ["read_model_shape", "supported_families"]
