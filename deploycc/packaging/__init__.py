"""Packaging: from a plan to a folder that a C or C++ app links."""

from deploycc.packaging.manifest import inspect
from deploycc.packaging.package import package

__all__ = ["inspect", "package"]
