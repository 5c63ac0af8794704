"""Why a layer takes what it takes: one line of facts."""

from __future__ import annotations

from deploycc.operators import Conv2d
from deploycc.profiling.ceilings import bandwidth
from deploycc.profiling.counting import moves_only
from deploycc.records import operator_of
from deploycc.result_types import Ceilings, Layer

NEAR = 0.6
"""From this share of the roofline on a layer is as fast as the machine: kernels of libraries reach it."""
SHORT_US = 1.0
"""What a call costs before it has computed anything is seen in layers shorter than this."""
FEW_CHANNELS = 8
"""Fewer channels than half of a vector of AVX-512 has lanes."""


def why(layer: Layer, ceilings: Ceilings | None) -> str:
    """One short line: what limits the layer, or what keeps it from its limit.

    From the layer's own facts and the ceilings; without ceilings only what shows without them.
    """
    if layer.runs_on == "copy":
        return "between the GPU's memory and the processor's"
    if layer.runs_on == "processor":
        return "on the processor: the GPU has no kernel for it"
    if layer.estimated:
        return _bound(layer, ceilings)
    if moves_only(layer.symbol, layer.operators):
        return f"copies: {_rate(layer)}"
    if layer.schedule in ("", "none"):
        return "plain loops: no schedule takes it"
    if layer.time_us < SHORT_US:
        return "over within a microsecond"
    if ceilings is None or layer.roofline is None:
        return _shape(layer)
    speed = bandwidth(ceilings, layer.nbytes)
    if layer.nbytes / speed >= layer.flops / ceilings.gflops:
        found = f"{_rate(layer)} of {speed:.0f}"
        if layer.roofline >= NEAR:
            return f"bound by memory: {found}"
        if not layer.flops:
            return f"work that is not counted; {_rate(layer)}"
        return f"little arithmetic for what it moves: {found}"
    share = f"{layer.roofline:.0%} of the peak"
    if layer.roofline > 1:
        # Winograd's products, or taps that read padding: the schedule leaves out what the definition counts.
        return f"fewer multiply-adds than counted: {share}"
    if layer.roofline >= NEAR:
        return f"bound by arithmetic: {share}"
    shape = _shape(layer) if layer.operator else "a function counts as one operation"
    return f"{share}: {shape}" if shape else share


def _bound(layer: Layer, ceilings: Ceilings | None) -> str:
    """Of a layer that was not timed: which of the two lines of the roofline it meets first."""
    if ceilings is None:
        return "not timed"
    memory = layer.nbytes / bandwidth(ceilings, layer.nbytes) >= layer.flops / ceilings.gflops
    what = "memory" if memory else "arithmetic"
    return f"an estimate, not timed: at best bound by {what}"


def _shape(layer: Layer) -> str:
    """What in a convolution's or product's shape leaves lanes or registers unused; empty for nothing."""
    if not layer.operator:
        return ""
    operator = operator_of(layer.operator)
    if not isinstance(operator, Conv2d):
        rows = layer.flops // max(2 * operator.inner * operator.columns, 1)
        return "one row: every weight is read for one multiply-add" if rows == 1 else ""
    taps = operator.kernel[0] * operator.kernel[1]
    inputs, outputs = operator.in_channels // operator.groups, operator.out_channels // operator.groups
    if operator.depthwise:
        return f"depthwise: {taps} multiply-adds an element"
    if outputs < FEW_CHANNELS:
        return f"{outputs} output channel{'s' * (outputs != 1)}{' a group' * (operator.groups > 1)}"
    if inputs < FEW_CHANNELS:
        return f"{inputs} input channel{'s' * (inputs != 1)}{' a group' * (operator.groups > 1)}"
    if operator.out_height * operator.out_width < FEW_CHANNELS * FEW_CHANNELS:
        return f"{operator.out_height}x{operator.out_width} pixels: weights are read for few multiply-adds"
    return ""


def _rate(layer: Layer) -> str:
    return f"{layer.nbytes / layer.time_us / 1e3:.1f} GB/s" if layer.time_us > 0 else "no time"
