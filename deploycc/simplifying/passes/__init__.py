"""Own passes over the graph.  One file a subject; each pass says what it refuses.

A pass takes the editor, changes what it can and returns how many places it changed.
"""

from __future__ import annotations

from collections.abc import Callable

from deploycc.graph_rewrites.activations import clip_to_min_max
from deploycc.graph_rewrites.cleaning import (
    constants_to_initializers,
    drop_dead_nodes,
    drop_empty_parts,
    drop_identities,
    drop_unused_initializers,
    drop_unused_outputs,
    give_outputs_producers,
    merge_equal_initializers,
)
from deploycc.graph_rewrites.forms import (
    deconvolution_pads,
    dropout_at_inference,
    identity_matrix,
    one_hot_by_comparison,
    power_in_one_type,
    reduce_booleans_as_integers,
    reduce_over_no_axes,
    sign_of_infinity,
    space_to_depth_by_transpose,
)
from deploycc.graph_rewrites.normalising import (
    fold_batch_norm,
    in_single_precision,
    write_out_layer_norm,
    write_out_lp_norm,
    write_out_rms_norm,
)
from deploycc.graph_rewrites.pooling import drop_default_unpool_shape
from deploycc.graph_rewrites.quantised import fold_dequantised, fuse_quantised, multiply_as_integers
from deploycc.graph_rewrites.random_numbers import random_constants
from deploycc.graph_rewrites.resizing import (
    drop_empty_resize_inputs,
    name_all_resize_axes,
    resize_by_axis,
    upsample_to_resize,
)
from deploycc.onnx_editor import Editor
from deploycc.simplifying.passes.constants import fold_constants
from deploycc.simplifying.passes.padding import fold_pad_into_convolution
from deploycc.simplifying.passes.pooling import spatial_mean_to_global_average_pool

Pass = Callable[[Editor], int]

CLEANING: tuple[Pass, ...] = (
    constants_to_initializers,
    drop_identities,
    drop_empty_resize_inputs,
    drop_empty_parts,
    drop_unused_outputs,
    drop_dead_nodes,
    merge_equal_initializers,
    drop_unused_initializers,
    give_outputs_producers,
)
"""Safe on any graph; run before onnxsim and after it."""

FOLDING: tuple[Pass, ...] = (fold_constants,)
"""In place of onnxsim."""

LOWERING: tuple[Pass, ...] = (
    fuse_quantised,
    multiply_as_integers,
    fold_dequantised,
    clip_to_min_max,
    spatial_mean_to_global_average_pool,
    fold_pad_into_convolution,
    fold_batch_norm,
    upsample_to_resize,
    name_all_resize_axes,
    resize_by_axis,
    drop_default_unpool_shape,
    sign_of_infinity,
    deconvolution_pads,
    one_hot_by_comparison,
    space_to_depth_by_transpose,
    power_in_one_type,
    reduce_over_no_axes,
    reduce_booleans_as_integers,
    identity_matrix,
    dropout_at_inference,
    random_constants,
    write_out_layer_norm,
    write_out_lp_norm,
    write_out_rms_norm,
    in_single_precision,
)
"""Rewrites into what the lowering handles best; after onnxsim, which would undo some of them."""
