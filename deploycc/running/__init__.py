"""Packages at work: a package's library run here, under an emulator or on a device, by one small C program.

``verify``, ``bench`` and ``profile`` ask different questions of the same thing: a folder with the library,
inputs, and a program (``driver.c``) that does what ``Orders`` say.  ``places`` is where it runs, ``session``
the folder and the conversation with the program.
"""

from deploycc.running.devices import chips_to_run, is_emulated, place_for
from deploycc.running.orders import Dump, Orders
from deploycc.running.places import Place, place_of
from deploycc.running.session import Measured, Package, Session, open_package, run, variants_of

__all__ = [
    "Dump",
    "Measured",
    "Orders",
    "Package",
    "Place",
    "Session",
    "chips_to_run",
    "is_emulated",
    "open_package",
    "place_for",
    "place_of",
    "run",
    "variants_of",
]
