"""Operators of ONNX Runtime's own domain, written in standard ones (see ``docs/import.md``)."""

from deploycc.importing.contrib.families import HANDLERS, own_domain, standard_domain
from deploycc.importing.contrib.writing import DOMAIN

__all__ = ["DOMAIN", "HANDLERS", "own_domain", "standard_domain"]
