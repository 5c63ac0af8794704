"""Own passes over the graph.  One file a subject; each says what it refuses.

A pass takes the editor, changes what it can and returns how many places it changed.
"""

from __future__ import annotations

from collections.abc import Callable

from deploycc.simplifying.editor import Editor
from deploycc.simplifying.passes.activations import clip_to_min_max
from deploycc.simplifying.passes.cleaning import (
    constants_to_initializers,
    drop_dead_nodes,
    drop_identities,
    drop_unused_initializers,
    merge_equal_initializers,
)
from deploycc.simplifying.passes.pooling import spatial_mean_to_global_average_pool
from deploycc.simplifying.passes.resizing import drop_empty_resize_inputs

Pass = Callable[[Editor], int]

CLEANING: tuple[Pass, ...] = (
    constants_to_initializers,
    drop_identities,
    drop_empty_resize_inputs,
    drop_dead_nodes,
    merge_equal_initializers,
    drop_unused_initializers,
)
"""Safe on any graph; run before onnxsim and after it."""

LOWERING: tuple[Pass, ...] = (
    clip_to_min_max,
    spatial_mean_to_global_average_pool,
    drop_dead_nodes,
    drop_unused_initializers,
)
"""Rewrites into what the lowering handles best; after onnxsim, which would undo some of them."""
