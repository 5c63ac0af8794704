"""deploycc: compiles trained networks into self-contained libraries that C++ programs link."""

from __future__ import annotations
