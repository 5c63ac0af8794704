"""Says everything that stands between a model and a target, all at once, before anything is compiled."""

from deploycc.linting.checking import lint

__all__ = ["lint"]
