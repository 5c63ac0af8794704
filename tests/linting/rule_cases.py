"""For every rule written in Python a model on which it fires and one on which it is silent."""

from __future__ import annotations

from typing import Any

from deploycc.op_support import Operator

BRANCH = """g (float[2] x, bool c) => (float[2] y) {
    y = If (c) <
        then_branch = a () => (float[2] t) { t = Neg(x) },
        else_branch = b () => (float[2] e) { e = Abs(x) }
    >
}"""

CONV_BATCH_NORM = """g (float[1,1,4,4] x) => (float[1,2,4,4] y)
    <float[2,1,1,1] w = {1, 2}, float[2] s = {1, 2}, float[2] b = {0, 1}, float[2] m = {0, 1},
     float[2] v = {1, 2}>
    { c = Conv(x, w) y = BatchNormalization(c, s, b, m, v) }"""

FOCUS = """g (float[1,3,8,8] x) => (float[1,12,4,4] y)
    <int64[4] axes = {0, 1, 2, 3}, int64[4] steps = {1, 1, 2, 2}, int64[4] ends = {9, 9, 9, 9},
     int64[4] b0 = {0, 0, 0, 0}, int64[4] b1 = {0, 0, 1, 0},
     int64[4] b2 = {0, 0, 0, 1}, int64[4] b3 = {0, 0, 1, 1}>
    { p = Slice(x, b0, ends, axes, steps) q = Slice(x, b1, ends, axes, steps)
      r = Slice(x, b2, ends, axes, steps) s = Slice(x, b3, ends, axes, steps)
      y = Concat<axis=1>(p, q, r, s) }"""

ROI_ALIGN = """g (float[1,2,8,8] x, float[3,4] boxes, int64[3] batch, float[2,2,3,3] w, float[2,2,2,2] v)
    => (float[3,2,1,1] y) {
    f = Conv(x, w)
    r = RoiAlign<coordinate_transformation_mode="output_half_pixel", mode="avg", output_height=2,
        output_width=2, sampling_ratio=2>(f, boxes, batch)
    c = Conv(r, v)
    y = Relu(c) }"""

Graph = tuple[str, int]
"""An ONNX graph in onnx's text form and its opset."""

RULE_CASES: dict[str, tuple[Graph, Graph, dict[str, str]]] = {
    "no_converter": (
        ("g (float[2,2] x) => (float y) { y = Det(x) }", 18),
        ("g (float[2,2] x) => (float[2,2] y) { y = Relu(x) }", 18),
        {
            "message": "operator Det cannot be converted",
            "got": "Det (opset 18)",
            "help": "do it in the app|compute it in the app",
        },
    ),
    "foreign_domain": (
        ("g (float[2] x) => (float[2] y) { y = vendor.Relu(x) }", 18),
        ("g (float[2] x) => (float[2] y) { y = Relu(x) }", 18),
        {
            "message": "operator Relu of the domain 'vendor' would be taken for the standard operator "
            "of that name",
            "got": "vendor::Relu",
            "verdict": "silently-wrong",
        },
    ),
    "older_meaning": (
        ("g (float[2,3] x) => (float[2,3] y) { y = Slice<starts=[0], ends=[2]>(x) }", 9),
        ("g (float[2,3] x) => (float[2,3] y) { y = Exp(x) }", 9),
        {
            "message": "Slice of opset 9 would be read as that of opset 13",
            "got": "Slice version 1",
            "need": "Slice version 13 or newer",
        },
    ),
    "open_shape": (
        ("g (float[4] x, int64 k) => (int64[n] y) <int64 a = {0}, int64 b = {1}> { y = Range(a, k, b) }", 18),
        ("g (float[4] x) => (float[4] y) { y = Relu(x) }", 18),
        {"message": "the shape of 'y' is not known before the network runs", "got": "?"},
    ),
    "empty_tensor": (
        (
            "g (float[4] x) => (float[m] y) <int64[1] a = {4}> { z = Slice(x, a, a) y = Neg(z) }",
            18,
        ),
        ("g (float[4] x, float[0] u) => (float[4] y) { y = Relu(x) }", 18),
        {"message": "'z' has no elements", "got": "0", "op": "Slice"},
    ),
    "control_flow": (
        (BRANCH, 18),
        ("g (float[2] x) => (float[2] y) { y = Neg(x) }", 18),
        {
            "message": "a branch is decided while the network runs",
            "got": "a condition computed from the inputs ('c')",
        },
    ),
    "element_type": (
        ("g (float[2] x) => (float[2] y) { z = Cast<to=16>(x) y = Cast<to=1>(z) }", 18),
        ("g (float[2] x) => (float[2] y) { z = Cast<to=10>(x) y = Cast<to=1>(z) }", 18),
        {"message": "tensor 'z' has an element type without kernels", "got": "bfloat16"},
    ),
    "unit_lacks": (
        ("g (bool[2] x, bool[2] z) => (bool[2] y) { y = And(x, z) }", 18),
        ("g (float[2] x) => (float[2] y) { y = Relu(x) }", 18),
        {"message": "operator And does not run on gpu", "verdict": "fallback", "severity": "warning"},
    ),
    "support_unknown": (
        ("g (float[2] x) => (float[2] y) { y = vendor.Frobnicate(x) }", 18),
        ("g (float[2] x) => (float[2] y) { y = Relu(x) }", 18),
        {"message": "whether vendor::Frobnicate is taken is not known", "verdict": "info"},
    ),
    "operator_version": (
        ("g (float[1,1,8,8] x, float[1,1,3,3] w) => (float[1,1,6,6] y) { y = Conv(x, w) }", 22),
        ("g (float[1,1,8,8] x, float[1,1,3,3] w) => (float[1,1,6,6] y) { y = Conv(x, w) }", 18),
        {"message": "Conv of opset 22 is not in the converter's list", "need": "version 1, 11"},
    ),
    "operator_types": (
        ("g (int32[2] x) => (int32[2] y) { y = Ceil(x) }", 18),
        ("g (float16[2] x) => (float16[2] y) { y = Ceil(x) }", 18),
        {
            "message": "Ceil does not take int32 there",
            "got": "int32 in 'x'",
            "need": "float32, float16, bfloat16",
            "verdict": "unsupported",
            "tensor": "x",
        },
    ),
    # ---- form ----
    "training_mode": (
        (
            """g (float[1,4] x) => (float[1,4] y) <float r = {0.5}, bool t = {1}> { y = Dropout(x, r, t) }""",
            18,
        ),
        ("g (float[1,4] x) => (float[1,4] y) <float r = {0.5}> { y = Dropout(x, r) }", 18),
        {"got": "training_mode true", "verdict": "silently-wrong", "severity": "error"},
    ),
    "unfolded_batchnorm": (
        (CONV_BATCH_NORM, 18),
        (CONV_BATCH_NORM.replace("float[1,2,4,4] y)", "float[1,2,4,4] y, float[1,2,4,4] c)"), 18),
        {"got": "Conv 'Conv_0' followed by BatchNormalization", "fix": "batchnorm-fold", "severity": "info"},
    ),
    "dead_nodes": (
        ("g (float[4] x) => (float[4] y) { a = Exp(x) b = Neg(a) y = Relu(x) }", 18),
        ("g (float[4] x) => (float[4] y, float[4] b) { a = Exp(x) b = Neg(a) y = Relu(x) }", 18),
        {
            "node": "Neg_1",
            "got": "2 nodes that lead to no output: 'Exp_0', 'Neg_1'",
            "fix": "drop-dead-nodes",
        },
    ),
    "duplicate_weights": (
        ("g (float[4] x) => (float[4] y) { y = Relu(x) }", 18),
        ("g (float[4] x) => (float[4] y) { y = Relu(x) }", 18),
        {
            "got": "1 copy, 8 KiB together; 'w2' is 'w1' again",
            "tensor": "w1",
            "fix": "merge-initializers",
        },
    ),
    "unused_weights": (
        (
            "g (float[2] x) => (float[2] y) <float[2] w = {1, 2}, float[3] v = {1, 2, 3}> { y = Add(x, w) }",
            18,
        ),
        ("g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }", 18),
        {"got": "'v', 12 bytes together", "tensor": "v", "fix": "drop-unused-initializers"},
    ),
    "cancelling_transposes": (
        (
            """g (float[2,3,4] x) => (float[2,3,4] y) {
                a = Transpose<perm=[0,2,1]>(x) y = Transpose<perm=[0,2,1]>(a) }""",
            18,
        ),
        (
            """g (float[2,3,4] x) => (float[3,2,4] y) {
                a = Transpose<perm=[0,2,1]>(x) b = Relu(a) y = Transpose<perm=[2,0,1]>(b) }""",
            18,
        ),
        {
            "node": "Transpose_1",
            "got": "'Transpose_0' and 'Transpose_1', permutations [0, 2, 1] and [0, 2, 1], 384 bytes moved",
            "verdict": "slow",
            "fix": "cancel-transposes",
        },
    ),
    "does_nothing": (
        ("g (float[4] x) => (float[4] y) { a = Identity(x) b = Cast<to=1>(a) y = Relu(b) }", 18),
        ("g (float[4] x) => (float16[4] y) { a = Cast<to=10>(x) y = Relu(a) }", 18),
        {"got": "1 Cast, 1 Identity; the first is 'Identity_0'", "fix": "drop-identities"},
    ),
    "cast_pair": (
        ("g (float[4] x) => (float[4] y) { a = Cast<to=10>(x) y = Cast<to=1>(a) }", 18),
        ("g (float[4] x) => (float[4] y) { a = Cast<to=10>(x) b = Exp(a) y = Cast<to=1>(b) }", 18),
        {
            "message": "two casts in a row: the first one rounds",
            "got": "float32 to float16 to float32",
            "need": "float32, no cast",
        },
    ),
    "opset_too_new": (
        ("g (float[2,3] x) => (float[2,3] y) { a = Relu(x) y = Softmax(a) }", 18),
        ("g (float[2,3] x) => (float[2,3] y) { a = Relu(x) y = Relu(a) }", 18),
        {
            "got": "Softmax of 13 (newest listed 11)",
            "need": "opset 12, which the list covers for every operator here",
            "severity": "warning",
        },
    ),
    "opset_range": (
        ("g (float[2] x) => (float[2] y) { y = Relu(x) }", 26),
        ("g (float[2] x) => (float[2] y) { y = Relu(x) }", 25),
        {"got": "opset 26", "need": ">=9,<=25", "severity": "warning"},
    ),
    # ---- shapes ----
    "dynamic_shape": (
        ("g (float[n,3,8,8] x) => (float[n,3,8,8] y) { y = Relu(x) }", 18),
        ("g (float[1,3,8,8] x) => (float[1,3,8,8] y) { y = Relu(x) }", 18),
        {
            "message": "input 'x' has no fixed shape",
            "got": "?x3x8x8",
            "help": "--shape x=1x3x8x8 with the extents that you use",
            "severity": "error",
        },
    ),
    "batch_size": (
        ("g (float[4,3,8,8] x) => (float[4,3,8,8] y) { y = Relu(x) }", 18),
        ("g (float[1,3,8,8] x, float[2,64] s) => (float[1,3,8,8] y) { y = Relu(x) }", 18),
        {"got": "4x3x8x8", "need": "1x3x8x8", "verdict": "unsupported"},
    ),
    "rank_limit": (
        ("g (float[2,3,2,2,3,3] x) => (float[2,3,2,2,3,3] y) { y = Relu(x) }", 18),
        ("g (float[1,2,3,4,5] x) => (float[1,2,3,4,5] y) { y = Relu(x) }", 18),
        {"got": "rank 6 (2x3x2x2x3x3)", "need": "rank 5 or less", "tensor": "y"},
    ),
    "fully_connected_rank": (
        (
            """g (float[1,1,2,2,3] x) => (float[1,1,2,2,2] y) <float[3,2] w = {1,2,3,4,5,6}>
                { y = MatMul(x, w) }""",
            18,
        ),
        (
            "g (float[1,2,2,3] x) => (float[1,2,2,2] y) <float[3,2] w = {1,2,3,4,5,6}> { y = MatMul(x, w) }",
            18,
        ),
        {"got": "rank 5 (1x1x2x2x3)", "need": "rank 4 or less"},
    ),
    "input_rank": (
        ("g (float[1,2048] x) => (float[1,2048] y) { y = Relu(x) }", 18),
        ("g (float[1,3,8,8] x) => (float[1,3,8,8] y) { y = Relu(x) }", 18),
        {"got": "1x2048", "need": "1x1x1x2048", "severity": "warning"},
    ),
    "graph_interface": (
        ("g (float[1,3] a, float[2] b) => (float[1,3] y) { y = Relu(a) }", 18),
        ("g (float[1,3] a) => (float[1,3] y) { y = Relu(a) }", 18),
        {
            "message": "the network has 2 inputs and 1 output",
            "got": "in: 'a' 1x3, 'b' 2; out: 'y' 1x3",
            "severity": "info",
        },
    ),
    "extent_limit": (
        ("g (float[1,70000] x) => (float[1,70000] y) { y = Relu(x) }", 18),
        ("g (float[1,65535] x) => (float[1,65535] y) { y = Relu(x) }", 18),
        {"got": "70000 (1x70000)", "need": "extents of at most 65535"},
    ),
    "image_extent": (
        ("g (float[1,2048,8,32] x) => (float[1,2048,8,32] y) { y = Relu(x) }", 18),
        ("g (float[1,2048,8,31] x) => (float[1,2048,8,31] y) { y = Relu(x) }", 18),
        {"got": "512 x 32 = 16384 pixels a row (1x2048x8x32)", "severity": "warning"},
    ),
    "fully_connected_extent": (
        ("g (float[1,3] x) => (float[1,2] y) <float[3,2] w = {1,2,3,4,5,6}> { y = Gemm(x, w) }", 18),
        ("g (float[1,2] x) => (float[1,2] y) <float[2,2] w = {1,2,3,4}> { y = Gemm(x, w) }", 18),
        {"got": "3 inputs, 2 outputs", "need": "at most 2 of each"},
    ),
    "data_dependent_size": (
        ("g (float[2,3] x) => (int64[2,n] y) { y = NonZero(x) }", 18),
        ("g (float[2,3] x) => (int64[1,3] y) { y = ArgMax(x) }", 18),
        {"got": "2x?", "op": "NonZero", "tensor": "y", "verdict": "unsupported"},
    ),
    "input_channels": (
        ("g (float[1,17,8,8] x) => (float[1,17,8,8] y) { y = Relu(x) }", 18),
        ("g (float[1,16,8,8] x) => (float[1,16,8,8] y) { y = Relu(x) }", 18),
        {"got": "1x17x8x8", "need": "at most 16 channels", "verdict": "fallback"},
    ),
    "element_limit": (
        ("g (float[1,8,65536,4096] x) => (float[1,8,65536,4096] y) { y = Relu(x) }", 18),
        ("g (float[1,7,65536,4096] x) => (float[1,7,65536,4096] y) { y = Relu(x) }", 18),
        {"got": "2.1 thousand million (1x8x65536x4096)", "need": "at most 2147483647"},
    ),
    # ---- element types and quantisation ----
    "quantised_for_float": (
        ("g (float[4] x, float s, uint8 z) => (uint8[4] y) { y = QuantizeLinear(x, s, z) }", 18),
        ("g (float[4] x) => (float[4] y) { y = Relu(x) }", 18),
        {"got": "1 QuantizeLinear", "severity": "warning"},
    ),
    "quantised_form": (
        (
            """g (uint8[1,1,4,4] x, float s, uint8 z) => (uint8[1,1,2,2] y)
                <uint8[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}>
                { y = QLinearConv(x, s, z, w, s, z, s, z) }""",
            18,
        ),
        ("g (float[1,1,4,4] x, float[1,1,3,3] w) => (float[1,1,2,2] y) { y = Conv(x, w) }", 18),
        {"got": "1 QLinearConv", "severity": "warning", "fix": "qlinear-to-qdq"},
    ),
    "per_channel_scale": (
        (
            """g (float[1,2,4,4] x) => (float[1,2,4,4] y) <float[2] s = {0.5, 0.25}, int8[2] z = {0, 0}>
                { q = QuantizeLinear<axis=1>(x, s, z) y = Identity(q) }""",
            18,
        ),
        (
            """g (float[1,1,4,4] x) => (float[1,2,4,4] y)
                <int8[2,1,1,1] w = {1, 2}, float[2] s = {0.5, 0.25}, int8[2] z = {0, 0}>
                { d = DequantizeLinear<axis=0>(w, s, z) y = Conv(x, d) }""",
            18,
        ),
        {"message": "activations have a scale for each channel", "got": "2 scales", "tensor": "x"},
    ),
    "calibration_needed": (
        ("g (float[1,3,8,8] x) => (float[1,3,8,8] y) { y = Relu(x) }", 18),
        (
            """g (float[1,3,8,8] x) => (uint8[1,3,8,8] y) <float s = {0.5}, uint8 z = {0}>
                { y = QuantizeLinear(x, s, z) }""",
            18,
        ),
        {"got": "1 node, none of them QuantizeLinear", "severity": "info"},
    ),
    "target_types": (
        ("g (float[4] x) => (float[4] y) { a = Cast<to=11>(x) b = Exp(a) y = Cast<to=1>(b) }", 18),
        ("g (float[4] x) => (int64[1] y) { a = Exp(x) y = ArgMax(a) }", 18),
        {"got": "float64 in 2 tensors, the first 'a'", "need": "float32, float16", "verdict": "unsupported"},
    ),
    "float16_range": (
        ("g (float[2] x) => (float[2] y) <float[2] w = {1.0, -70000.0}> { y = Mul(x, w) }", 18),
        ("g (float[2] x) => (float[2] y) <float m = {-70000.0}> { y = Clip(x, m) }", 18),
        {
            "message": "a constant becomes infinite in float16",
            "got": "70000 in 'w'",
            "verdict": "silently-wrong",
            "severity": "warning",
        },
    ),
    "float16_overflow": (
        ("g (float[2] x) => (float[2] y) { y = Exp(x) }", 18),
        (
            """g (float[1,8] x) => (float[1,8] y, float[1,1] q) <int64[1] a = {1}>
                { m = ReduceMax<axes=[1]>(x) d = Sub(x, m) y = Exp(d)
                  s = Sigmoid(x) q = ReduceSumSquare<axes=[1]>(s) }""",
            13,
        ),
        {"got": "exp of values without a bound", "severity": "info"},
    ),
    "double_precision": (
        ("g (float[4] x) => (float[4] y) { a = Cast<to=11>(x) b = Exp(a) y = Cast<to=1>(b) }", 18),
        ("g (float[4] x) => (float[4] y) { y = Exp(x) }", 18),
        {"got": "float64 in 2 tensors, the first 'a'", "severity": "info", "node": "Cast_0"},
    ),
    "long_integers": (
        ("g (float[1,4] x) => (int64[1,1] y) { y = ArgMax<axis=1>(x) }", 18),
        ("g (float[1,4] x) => (int32[1,4] y) { y = Cast<to=6>(x) }", 18),
        {"got": "int64 in 1 tensor, the first 'y'; the output 'y' is one", "severity": "info"},
    ),
    "other_precision": (
        ("g (float16[4] x) => (float16[4] y) { y = Elu(x) }", 18),
        ("g (float[4] x) => (float[4] y) { y = Elu(x) }", 18),
        {"message": "Elu is computed in float32", "got": "Elu of float16", "severity": "info"},
    ),
    # ---- operators by platform ----
    "unfused_activation": (
        (
            """g (float[1,3,8,8] x, float[4,3,1,1] w) => (float[1,4,8,8] y)
                { c = Conv(x, w) s = Sigmoid(c) y = Mul(c, s) }""",
            18,
        ),
        ("g (float[1,3,8,8] x, float[4,3,1,1] w) => (float[1,4,8,8] y) { c = Conv(x, w) y = Relu(c) }", 18),
        {
            "message": "Sigmoid does not fuse with the Conv before it",
            "got": "Sigmoid times its own input (Swish) behind 'Conv_0', 2 KiB moved, 29 % of the network's",
            "verdict": "slow",
        },
    ),
    "upsampling_form": (
        (
            """g (float[1,2,4,4] x) => (float[1,2,8,8] y) <float[4] s = {1, 1, 2, 2}>
                { y = Resize<mode="linear", antialias=1>(x, , s) }""",
            18,
        ),
        (
            """g (float[1,2,4,4] x) => (float[1,2,8,8] y) <float[4] s = {1, 1, 2, 2}>
                { y = Resize<mode="linear">(x, , s) }""",
            18,
        ),
        {
            "got": "Resize linear half_pixel antialias from 1x2x4x4 to 1x2x8x8",
            "need": "nearest asymmetric floor; nearest half_pixel round_prefer_floor; linear half_pixel; "
            "linear pytorch_half_pixel; linear asymmetric; linear align_corners; cubic half_pixel; "
            "depthwise ConvTranspose; ConvTranspose; DepthToSpace DCR; DepthToSpace CRD",
        },
    ),
    "low_depth": (
        ("g (float[1,8,8,8] x, float[32,8,1,1] w) => (float[1,32,8,8] y) { y = Conv(x, w) }", 18),
        ("g (float[1,32,8,8] x, float[32,32,1,1] w) => (float[1,32,8,8] y) { y = Conv(x, w) }", 18),
        {
            "got": "25 % of the arithmetic is of use: 8 to 32 channels, "
            "100 % of the network's arithmetic as padded",
            "need": "multiples of 32",
            "verdict": "slow",
        },
    ),
    "focus_slices": (
        (FOCUS, 18),
        (FOCUS.replace("steps = {1, 1, 2, 2}", "steps = {1, 1, 2, 1}").replace("4,4] y", "4,8] y"), 18),
        {"got": "1x3x8x8 to 1x12x4x4, four slices of step 2", "fix": "focus-to-conv", "op": "Concat"},
    ),
    "expensive_fully_connected": (
        ("g (float[1,8,4,4] x) => (float[1,4096] y) { f = Flatten(x) y = Gemm(f, w1) }", 18),
        ("g (float[1,8,4,4] x) => (float[1,8,4,4] y) { y = Relu(x) }", 18),
        {
            "got": "128 x 4096 weights, 2 MiB (100 % of all) for 100 % of the multiply-adds",
            "fix": "flatten-gemm-to-conv",
        },
    ),
    "two_networks": (
        (ROI_ALIGN, 18),
        ("g (float[1,2,8,8] x, float[2,2,3,3] w) => (float[1,2,6,6] y) { y = Conv(x, w) }", 18),
        {
            "message": "RoiAlign divides the model into two networks",
            "got": "decisions on data in 1 node; behind them 2 nodes, 1 layer with weights",
            "need": "a network that ends at 'f', 'boxes', 'batch' and one that begins behind",
            "severity": "info",
            "fix": "roialign-to-gridsample",
        },
    ),
    "indexed_access": (
        (
            """g (float[1,8] x, float[8,8] w) => (float[1,8] y)
                { a = MatMul(x, w) i = ArgMax<axis=0>(a)
                  b = GatherElements<axis=1>(a, i) y = MatMul(b, w) }""",
            18,
        ),
        (
            """g (float[1,8] x, float[8,8] w) => (float[1,8] y)
                { a = MatMul(x, w) i = ArgMax<axis=0>(a) y = GatherElements<axis=1>(a, i) }""",
            18,
        ),
        {"got": "computed indices 'i', 32 bytes of results", "op": "GatherElements"},
    ),
    "softmax_axis": (
        ("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = Softmax<axis=1>(x) }", 18),
        ("g (float[1,4,1,1] x) => (float[1,4,1,1] y) { y = Softmax<axis=1>(x) }", 18),
        {"got": "axis 1 of 1x4x8x8", "need": "axis 3", "fix": "softmax-last-axis"},
    ),
    "input_layout": (
        ("g (float[1,3,8,9] x) => (float[1,3,8,9] y) { y = Relu(x) }", 18),
        ("g (float[1,8,9,3] x) => (float[1,3,8,9] y) { y = Transpose<perm=[0,3,1,2]>(x) }", 18),
        {"got": "1x3x8x9 in the model", "need": "1x8x9x3 at run time"},
    ),
    "layout_transposes": (
        (
            """g (float[1,3,8,8] x) => (float[1,3,8,8] y) {
                a = Transpose<perm=[0,2,3,1]>(x) b = Softmax(a) y = Transpose<perm=[0,3,1,2]>(b) }""",
            18,
        ),
        ("g (float[1,3,8,8] x) => (float[1,8,8,3] y) { y = Transpose<perm=[0,2,3,1]>(x) }", 18),
        {"got": "2 Transposes, 3 KiB moved, 67 % of the network's", "verdict": "slow"},
    ),
    # ---- limits of the target ----
    "time_share": (
        ("g (float[1,64,512,512] x) => (float[1,64,512,512] y) { y = Relu(x) }", 18),
        ("g (float[1,64,8,8] x) => (float[1,64,8,8] y) { y = Relu(x) }", 18),
        {
            "got": "10 ms of 10 ms (100 %) for 128 MiB; 0.7 ms of arithmetic (100 % of all)",
            "severity": "warning",
            "verdict": "slow",
        },
    ),
    "memory_bound": (
        ("g (float[1,64,512,512] x) => (float[1,64,512,512] y) { y = Relu(x) }", 18),
        ("g (float[1,64,8,8] x) => (float[1,64,8,8] y) { y = Relu(x) }", 18),
        {
            "got": "1 node, 10 ms of 10 ms (100 %), most the one here: 10 ms for 128 MiB",
            "severity": "info",
        },
    ),
    "heavy_layer": (
        (
            """g (float[1,8,8,8] x, float[8,8,3,3] w) => (float[1,8,6,6] y) {
                a = Conv(x, w) b = Relu(a) c = Neg(b) d = Abs(c)
                e = Neg(d) f = Abs(e) h = Neg(f) y = Abs(h) }""",
            18,
        ),
        (
            """g (float[1,8,8,8] x) => (float[1,8,8,8] y) { a = Exp(x) b = Relu(a) c = Neg(b)
                d = Abs(c) e = Neg(d) f = Abs(e) h = Neg(f) y = Abs(h) }""",
            18,
        ),
        {"got": "91 % of 22.8 thousand multiply-adds, result 1x8x6x6", "node": "Conv_0"},
    ),
    "weight_memory": (
        ("g (float[4] x) => (float[4] y) { y = Relu(x) }", 18),
        ("g (float[4] x) => (float[4] y) { y = Relu(x) }", 18),
        {
            "message": "the weights take 200 % of the target's memory",
            "got": "2 MiB, the largest 'w1' with 2 MiB",
            "severity": "warning",
            "verdict": "slow",
        },
    ),
    "activation_memory": (
        ("g (float[1,64,64,64] x) => (float[1,64,64,64] y) { y = Relu(x) }", 18),
        ("g (float[1,64,16,16] x) => (float[1,64,16,16] y) { y = Relu(x) }", 18),
        {
            "message": "weights and activations take 200 % of the target's memory",
            "got": "2 MiB of activations at once and 0 bytes of weights; the largest is 'y', 1x64x64x64",
            "severity": "warning",
            "verdict": "slow",
        },
    ),
}

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
        data_dependent_size quantised_form per_channel_scale target_types long_integers
        unfused_activation low_depth focus_slices expensive_fully_connected indexed_access
        softmax_axis input_layout""".split(),
        "snpe:htp",
    ),
    **dict.fromkeys("time_share memory_bound weight_memory activation_memory".split(), "rpi4"),
    "operator_types": "cuda",
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
    "data_dependent_size": {"static_shapes": True},
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
