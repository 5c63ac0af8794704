"""The engines of ``deploycc.timing.peers`` under the names that the tables of results have."""

from __future__ import annotations

from dataclasses import replace

from deploycc.timing.peers import PEERS as ENGINES
from deploycc.timing.peers import Engine, EngineFailed, Peer

__all__ = ["PEERS", "Engine", "EngineFailed", "Peer"]


PEERS = {
    "ort": replace(ENGINES["onnxruntime"], name="ort"),
    **{name: peer for name, peer in ENGINES.items() if name != "onnxruntime"},
}
"""By name, in the tables' order."""
