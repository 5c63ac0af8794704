"""What every rule written in Python says of the graph on which it fires, and what its target is in its test.

The graphs are beside the rules (``deploycc/linting/rules/examples.toml``): ``deploycc explain`` shows them.
"""

from __future__ import annotations

import tomllib
from typing import Any

from deploycc.op_support import Operator
from deploycc.rule_names import RULES_FOLDER

Graph = tuple[str, int]
"""An ONNX graph in onnx's text form and its opset."""

WANTED: dict[str, dict[str, str]] = {
    "no_converter": {
        "message": "operator Bernoulli cannot be converted",
        "got": "Bernoulli (opset 18)",
        "help": "draw random numbers with RandomUniformLike and compare with Less: ONNX Runtime draws 1 with "
        "probability 1 - p, the standard with p",
    },
    "foreign_domain": {
        "message": "operator Relu of the domain 'vendor' would be taken for the standard operator "
        "of that name",
        "got": "vendor::Relu",
        "verdict": "silently-wrong",
    },
    "older_meaning": {
        "message": "Slice of opset 9 would be read as that of opset 13",
        "got": "Slice version 1",
        "need": "Slice version 13 or newer",
    },
    "counted_rows": {"op": "ReduceMax", "tensor": "w", "got": "'w' with as many rows as 'w' on axis 1"},
    "open_shape": {"message": "the shape of 'y' is not known before the network runs", "got": "?"},
    "empty_tensor": {"message": "'z' has no elements", "got": "0", "op": "Slice"},
    "control_flow": {
        "message": "a branch is decided while the network runs",
        "got": "a condition computed from the inputs ('c')",
    },
    "element_type": {"message": "tensor 'z' has an element type without kernels", "got": "bfloat16"},
    "runs_on_processor": {
        "message": "TopK runs on the processor, not on the GPU",
        "got": "it sorts; 2 KiB are copied to the processor and 288 bytes back",
        "verdict": "fallback",
        "severity": "warning",
    },
    "unit_lacks": {
        "message": "operator And does not run on gpu",
        "verdict": "fallback",
        "severity": "warning",
    },
    "support_unknown": {"message": "whether vendor::Frobnicate is taken is not known", "verdict": "info"},
    "operator_version": {
        "message": "Conv of opset 22 is not in the converter's list",
        "need": "version 1, 11",
    },
    "operator_types": {
        "message": "Ceil does not take int32 there",
        "got": "int32 in 'x'",
        "need": "float32, float16, bfloat16",
        "verdict": "unsupported",
        "tensor": "x",
    },
    "training_mode": {"got": "training_mode true", "verdict": "silently-wrong", "severity": "error"},
    "unfolded_batchnorm": {
        "got": "Conv 'Conv_0' followed by BatchNormalization",
        "fix": "batchnorm-fold",
        "severity": "info",
    },
    "dead_nodes": {
        "node": "Neg_1",
        "got": "2 nodes that lead to no output: 'Exp_0', 'Neg_1'",
        "fix": "drop-dead-nodes",
    },
    "duplicate_weights": {
        "got": "1 copy, 8 KiB together; 'w2' is 'w1' again",
        "tensor": "w1",
        "fix": "merge-initializers",
    },
    "unused_weights": {"got": "'v', 12 bytes together", "tensor": "v", "fix": "drop-unused-initializers"},
    "cancelling_transposes": {
        "node": "Transpose_1",
        "got": "'Transpose_0' and 'Transpose_1', permutations [0, 2, 1] and [0, 2, 1], 384 bytes moved",
        "verdict": "slow",
        "fix": "cancel-transposes",
    },
    "does_nothing": {"got": "1 Cast, 1 Identity; the first is 'Identity_0'", "fix": "drop-identities"},
    "cast_pair": {
        "message": "two casts in a row: the first one rounds",
        "got": "float32 to float16 to float32",
        "need": "float32, no cast",
    },
    "opset_too_new": {
        "got": "Softmax of 13 (newest listed 11)",
        "need": "opset 12, which the list covers for every operator here",
        "severity": "warning",
    },
    "opset_range": {"got": "opset 26", "need": ">=9,<=25", "severity": "warning"},
    "dynamic_shape": {
        "message": "input 'x' has no fixed shape",
        "got": "?x3x8x8",
        "help": "--shape x=1x3x8x8 with the extents that you use",
        "severity": "error",
    },
    "batch_size": {"got": "4x3x8x8", "need": "1x3x8x8", "verdict": "unsupported"},
    "rank_limit": {"got": "rank 6 (2x3x2x2x3x3)", "need": "rank 5 or less", "tensor": "y"},
    "fully_connected_rank": {"got": "rank 5 (1x1x2x2x3)", "need": "rank 4 or less"},
    "input_rank": {"got": "1x2048", "need": "1x1x1x2048", "severity": "warning"},
    "graph_interface": {
        "message": "the network has 2 inputs and 1 output",
        "got": "in: 'a' 1x3, 'b' 2; out: 'y' 1x3",
        "severity": "info",
    },
    "extent_limit": {"got": "70000 (1x70000)", "need": "extents of at most 65535"},
    "image_extent": {"got": "512 x 32 = 16384 pixels a row (1x2048x8x32)", "severity": "warning"},
    "fully_connected_extent": {"got": "3 inputs, 2 outputs", "need": "at most 2 of each"},
    "size_at_run_time": {"got": "2x?", "op": "NonZero", "tensor": "y", "verdict": "unsupported"},
    "input_channels": {"got": "1x17x8x8", "need": "at most 16 channels", "verdict": "fallback"},
    "element_limit": {"got": "2.1 thousand million (1x8x65536x4096)", "need": "at most 2147483647"},
    "quantised_for_float": {"got": "1 QuantizeLinear", "severity": "warning"},
    "quantised_form": {"got": "1 QLinearConv", "severity": "warning", "fix": "qlinear-to-qdq"},
    "per_channel_scale": {
        "message": "activations have a scale for each channel",
        "got": "2 scales",
        "tensor": "x",
    },
    "calibration_needed": {"got": "1 node, none of them QuantizeLinear", "severity": "info"},
    "target_types": {
        "got": "float64 in 2 tensors, the first 'a'",
        "need": "float32, float16",
        "verdict": "unsupported",
    },
    "float16_range": {
        "message": "a constant becomes infinite in float16",
        "got": "70000 in 'w'",
        "verdict": "silently-wrong",
        "severity": "warning",
    },
    "float16_overflow": {"got": "exp of values without a bound", "severity": "info"},
    "double_precision": {"got": "float64 in 2 tensors, the first 'a'", "severity": "info", "node": "Cast_0"},
    "long_integers": {"got": "int64 in 1 tensor, the first 'y'; the output 'y' is one", "severity": "info"},
    "other_precision": {"message": "Elu is computed in float32", "got": "Elu of float16", "severity": "info"},
    "unfused_activation": {
        "message": "Sigmoid does not fuse with the Conv before it",
        "got": "Sigmoid times its own input (Swish) behind 'Conv_0', 2 KiB moved, 29 % of the network's",
        "verdict": "slow",
    },
    "upsampling_form": {
        "got": "Resize linear half_pixel antialias from 1x2x4x4 to 1x2x8x8",
        "need": "nearest asymmetric floor; nearest half_pixel round_prefer_floor; linear half_pixel; "
        "linear pytorch_half_pixel; linear asymmetric; linear align_corners; cubic half_pixel; "
        "depthwise ConvTranspose; ConvTranspose; DepthToSpace DCR; DepthToSpace CRD",
    },
    "low_depth": {
        "got": "25 % of the arithmetic is of use: 8 to 32 channels, "
        "100 % of the network's arithmetic as padded",
        "need": "multiples of 32",
        "verdict": "slow",
    },
    "focus_slices": {
        "got": "1x3x8x8 to 1x12x4x4, four slices of step 2",
        "fix": "focus-to-conv",
        "op": "Concat",
    },
    "expensive_fully_connected": {
        "got": "128 x 4096 weights, 2 MiB (100 % of all) for 100 % of the multiply-adds",
        "fix": "flatten-gemm-to-conv",
    },
    "two_networks": {
        "message": "RoiAlign divides the model into two networks",
        "got": "decisions on data in 1 node; behind them 2 nodes, 1 layer with weights",
        "need": "a network that ends at 'f', 'boxes', 'batch' and one that begins behind",
        "severity": "info",
        "fix": "roialign-to-gridsample",
    },
    "indexed_access": {"got": "computed indices 'i', 32 bytes of results", "op": "GatherElements"},
    "softmax_axis": {"got": "axis 1 of 1x4x8x8", "need": "axis 3", "fix": "softmax-last-axis"},
    "input_layout": {"got": "1x3x8x9 in the model", "need": "1x8x9x3 at run time"},
    "layout_transposes": {"got": "2 Transposes, 3 KiB moved, 67 % of the network's", "verdict": "slow"},
    "time_share": {
        "got": "10 ms of 10 ms (100 %) for 128 MiB; 0.7 ms of arithmetic (100 % of all)",
        "severity": "warning",
        "verdict": "slow",
    },
    "memory_bound": {
        "got": "1 node, 10 ms of 10 ms (100 %), most the one here: 10 ms for 128 MiB",
        "severity": "info",
    },
    "heavy_layer": {"got": "91 % of 22.8 thousand multiply-adds, result 1x8x6x6", "node": "Conv_0"},
    "weight_memory": {
        "message": "the weights take 200 % of the target's memory",
        "got": "2 MiB, the largest 'w1' with 2 MiB",
        "severity": "warning",
        "verdict": "slow",
    },
    "activation_memory": {
        "message": "weights and activations take 200 % of the target's memory",
        "got": "2 MiB of activations at once and 0 bytes of weights; the largest is 'y', 1x64x64x64",
        "severity": "warning",
        "verdict": "slow",
    },
}
"""Fields of the finding; a bar separates texts that would all do."""


def _cases() -> dict[str, tuple[Graph, Graph, dict[str, str]]]:
    rows = tomllib.loads((RULES_FOLDER / "examples.toml").read_text(encoding="utf-8"))
    return {
        name.replace("-", "_"): (
            (row["fires"]["graph"], row["fires"]["opset"]),
            (row["silent"]["graph"], row["silent"]["opset"]),
            WANTED[name.replace("-", "_")],
        )
        for name, row in rows.items()
    }


RULE_CASES = _cases()
"""Where each rule fires, where it is silent, and what it says."""

BRANCH = RULE_CASES["control_flow"][0][0]

ON = {
    **dict.fromkeys(
        """unit_lacks quantised_for_float fully_connected_extent image_extent float16_range
        float16_overflow""".split(),
        "snpe:gpu",
    ),
    **dict.fromkeys("calibration_needed input_channels".split(), "snpe:aip"),
    **dict.fromkeys(
        """support_unknown operator_version training_mode unfolded_batchnorm dead_nodes duplicate_weights
        unused_weights does_nothing opset_too_new dynamic_shape batch_size rank_limit
        fully_connected_rank input_rank opset_range element_limit graph_interface extent_limit
        size_at_run_time quantised_form per_channel_scale target_types long_integers
        unfused_activation low_depth focus_slices expensive_fully_connected indexed_access
        softmax_axis input_layout""".split(),
        "snpe:htp",
    ),
    **dict.fromkeys("time_share memory_bound weight_memory activation_memory".split(), "rpi4"),
    "operator_types": "tensorrt",
    "runs_on_processor": "cuda:sm_90",
}
"""The targets of rules that are not about what deploycc compiles itself, or that need a board's numbers."""

LIMITS: dict[str, dict[str, Any]] = {
    "opset_range": {"opsets": ">=9,<=25"},
    "element_limit": {"max_elements": 2147483647},
    "quantised_for_float": {"quantised": "never"},
    "dynamic_shape": {"static_shapes": True},
    "batch_size": {"batch": 1},
    "rank_limit": {"max_rank": 5},
    "fully_connected_rank": {"fc_max_rank": 4},
    "input_rank": {"input_rank": 4},
    "extent_limit": {"max_extent": 65535},
    "image_extent": {"image_extent": 16384},
    "fully_connected_extent": {"fc_extent": 2},
    "size_at_run_time": {"static_shapes": True},
    "input_channels": {"input_channels": 16},
    "per_channel_scale": {"per_channel_operators": ["Conv", "ConvTranspose"]},
    "calibration_needed": {"quantised": "always"},
    "target_types": {"dtypes": ["float32", "float16"]},
    "float16_range": {"float16_intermediates": True},
    "float16_overflow": {"float16_intermediates": True},
    "unfused_activation": {"fused_activations": ["Relu", "Clip"]},
    "low_depth": {"channel_multiple": 32},
    "input_layout": {"layout": "NHWC"},
}
"""Limits that the rule's target has in its test, whatever the table says."""

OPERATORS = {
    "opset_too_new": {"Relu": Operator(opsets=(1, 6)), "Softmax": Operator(opsets=(1, 11))},
    "operator_version": {"Conv": Operator(opsets=(1, 11))},
    "quantised_form": {"Conv": Operator()},
    "training_mode": {"Dropout": Operator(units=("htp",))},
    "unit_lacks": {"And": Operator(units=("cpu", "htp")), "Relu": Operator(units=("gpu",))},
}
"""Operators that the table of the rule's target has in its test."""

MEMORY = {"weight_memory": 1 << 20, "activation_memory": 1 << 20}
"""Bytes of memory that the rule's target has in its test."""

WEIGHTS: dict[str, dict[str, tuple[int, ...]]] = {
    "duplicate_weights": {"w1": (2048,), "w2": (2048,)},
    "expensive_fully_connected": {"w1": (128, 4096)},
    "weight_memory": {"w1": (1 << 19,)},
}
"""Float32 weights of ones that the firing model gets: too large to be written down."""
