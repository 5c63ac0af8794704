"""Packaging: from a plan to a folder that a C or C++ app links."""

from deploycc.packaging.assemble import package
from deploycc.packaging.manifest import inspect

__all__ = ["inspect", "package"]
