"""A kernel as text; re-exported by ``deploycc.types``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Listing:
    """One kernel as text: TVMScript before and after scheduling, LLVM IR after optimisation, assembly.

    Of a GPU's kernel (``device``) the last two are CUDA C and PTX.
    """

    symbol: str
    before: str
    after: str
    ir: str
    assembly: str
    device: bool = False

    @property
    def name(self) -> str:
        """``NNN-name``: the number that the symbol has, and what is in the kernel."""
        number, _, words = self.symbol.partition("_k")[2].partition("_")
        return f"{number}-{words}"

    def files(self) -> Mapping[str, str]:
        """File names and their texts."""
        ir, assembly = (".cu", ".ptx") if self.device else (".ll", ".s")
        texts = {".before.py": self.before, ".after.py": self.after, ir: self.ir, assembly: self.assembly}
        return {self.name + ending: text for ending, text in texts.items()}
