"""GPU kernels run on the processor: PTX becomes C, the C a library that runs whole grids.

docs/emulating.md tells what is run, how well it judges a kernel, and what it refuses.
"""

from __future__ import annotations

from deploycc.emulating.building import build_module
from deploycc.emulating.launching import EmulatedModule
from deploycc.emulating.translating import translate

__all__ = ["EmulatedModule", "build_module", "translate"]
