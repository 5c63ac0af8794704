"""Reads an ONNX file into a checked model whose inputs are static (see ``docs/import.md``)."""

from deploycc.importing.buckets import expand
from deploycc.importing.loading import load

__all__ = ["expand", "load"]
