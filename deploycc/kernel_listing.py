"""A kernel as text; re-exported by ``deploycc.types``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Listing:
    """One kernel as text: TVMScript before and after scheduling, LLVM IR after optimisation, assembly."""

    symbol: str
    before: str
    after: str
    ir: str
    assembly: str

    @property
    def name(self) -> str:
        """``NNN-name``: the number that the symbol has, and what is in the kernel."""
        number, _, words = self.symbol.partition("_k")[2].partition("_")
        return f"{number}-{words}"

    def files(self) -> Mapping[str, str]:
        """File names and their texts."""
        texts = {".before.py": self.before, ".after.py": self.after, ".ll": self.ir, ".s": self.assembly}
        return {self.name + ending: text for ending, text in texts.items()}
