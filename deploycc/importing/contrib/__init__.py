"""Operators of ONNX Runtime's own domain, written in standard ones (see ``docs/import.md``)."""

from deploycc.importing.contrib.families import HANDLERS, own_domain, standard_domain

__all__ = ["HANDLERS", "own_domain", "standard_domain"]
