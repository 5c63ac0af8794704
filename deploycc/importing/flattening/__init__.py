"""Makes a graph with control flow, sequences and optionals a straight one (see ``docs/import.md``)."""

from deploycc.importing.flattening.flatten import HANDLERS, straightened

__all__ = ["HANDLERS", "straightened"]
