"""Forms rather than networks: element types, ranks, shapes, outputs and opsets."""

from __future__ import annotations

import numpy as np

from tests.sweep.graphs import Graph, graph

_KEEP = {"float32": 1, "float16": 10, "float64": 11, "int32": 6, "int64": 7, "uint8": 2, "int8": 3, "bool": 9}


@graph
def output_is_input(g: Graph) -> list[str]:
    x = g.input(1, 3, 4, 4)
    return [g.Identity(x), g.Relu(x)]


@graph
def output_is_constant(g: Graph) -> list[str]:
    return [g.Identity(g.w(2, 3)), g.Relu(g.input(2, 2))]


@graph
def output_is_initializer(g: Graph) -> list[str]:
    return [g.w(2, 3), g.Relu(g.input(2, 2))]


@graph
def all_constant(g: Graph) -> str:
    return str(g.Add(g.w(2, 3), g.w(3)))


@graph
def outputs_the_same(g: Graph) -> list[str]:
    x = g.Relu(g.input(2, 3))
    return [x, g.Identity(x), g.Reshape(x, g.c([6])), g.Identity(g.Identity(x))]


@graph
def unused_input(g: Graph) -> str:
    g.input(4, 5)
    return str(g.Relu(g.input(2, 3)))


@graph
def unused_results(g: Graph) -> str:
    x = g.input(2, 6)
    g.Exp(x)
    return str(g.Split(x, g.c([1, 2, 3]), axis=1, results=3)[1])


@graph
def only_reshape(g: Graph) -> str:
    return str(g.Reshape(g.input(2, 6), g.c([3, 4])))


@graph
def only_transpose(g: Graph) -> str:
    return str(g.Transpose(g.input(2, 3, 4), perm=[2, 0, 1]))


@graph
def scalar_input(g: Graph) -> list[str]:
    s, x = g.input(), g.input(3, 4)
    return [g.Mul(x, s), g.Exp(s), g.ReduceSum(x, keepdims=0)]


@graph
def zero_size_input(g: Graph) -> list[str]:
    x = g.input(0, 3)
    return [g.Relu(x), g.Concat(x, g.input(2, 3), axis=0)]


@graph
def zero_size_reduce(g: Graph) -> str:
    return str(g.ReduceSum(g.input(0, 3), g.c([0])))


@graph
def zero_size_middle(g: Graph) -> str:
    x = g.input(2, 3)
    return str(g.Concat(x, g.Slice(x, g.c([1]), g.c([1]), g.c([0])), axis=0))


@graph
def rank5(g: Graph) -> str:
    x = g.input(1, 2, 3, 4, 5)
    return str(g.Add(g.Transpose(x, perm=[0, 4, 2, 3, 1]), g.w(3, 1, 2)))


@graph
def rank6(g: Graph) -> str:
    x = g.Transpose(g.input(2, 1, 3, 2, 2, 3), perm=[5, 3, 1, 0, 4, 2])
    return str(g.ReduceMax(g.Softmax(x, axis=2), g.c([1, -1]), keepdims=0))


@graph
def rank7_softmax(g: Graph) -> str:
    return str(g.Softmax(g.input(1, 2, 1, 2, 3, 1, 4), axis=4))


@graph
def batch_of_two(g: Graph) -> str:
    return g.conv(g.Relu(g.conv(g.input(2, 3, 7, 5), 3, 6, strides=[2, 1])), 6, 4, group=2)


@graph
def broadcast_forms(g: Graph) -> list[str]:
    x, y = g.input(2, 1, 4), g.input(3, 1)
    return [
        g.Add(x, y),
        g.Sub(y, x),
        g.Mul(x, g.c([2.0])),
        g.Div(g.c(1.0), g.Exp(x)),
        g.Max(x, y, g.c(0.1)),
        g.Mean(x, y),
    ]


_INTEGER_PAIRS = (np.array([-7, -6, -1, 0, 1, 5, 6, 7]), np.array([3, -3, 2, 2, -5, 5, -4, 7]))
for _dtype in ("int32", "int64"):

    @graph(name=f"integer_arithmetic_{_dtype}")
    def _integers(g: Graph, dtype: str = _dtype) -> list[str]:
        a, b = (g.input(8, dtype=dtype, values=v) for v in _INTEGER_PAIRS)
        three = g.c(np.array(3, dtype))
        return [
            g.Div(a, b),
            g.Mod(a, b),
            g.Mod(a, b, fmod=1),
            g.Div(a, three),
            g.Mod(a, three),
            g.Mul(a, b),
            g.Sub(a, b),
            g.Neg(a),
            g.Abs(a),
            g.Min(a, b),
            g.Max(a, b),
            g.Sign(a),
            g.Pow(a, g.c(np.array(2, dtype))),
            g.Clip(a, g.c(np.array(-2, dtype)), g.c(np.array(4, dtype))),
        ]


@graph
def mod_float(g: Graph) -> list[str]:
    a = g.input(6, values=np.array([-4.3, 7.2, 5.0, 4.3, -7.2, 8.0]))
    b = g.input(6, values=np.array([2.1, -3.4, 8.0, -2.1, 3.4, 5.0]))
    return [g.Mod(a, b, fmod=1), g.Sub(a, g.Mul(g.Floor(g.Div(a, b)), b))]


@graph
def uint8_arithmetic(g: Graph) -> list[str]:
    a, b = g.input(3, 4, dtype="uint8"), g.input(3, 4, dtype="uint8")
    return [g.Add(a, b), g.Mul(a, b), g.Div(a, g.c(np.uint8(3))), g.Max(a, b), g.Min(a, b), g.Sub(a, b)]


for _to, _number in _KEEP.items():
    for _from in _KEEP:

        @graph(name=f"cast_{_from}_{_to}")
        def _cast(g: Graph, source: str = _from, to: int = _number) -> str:
            values = np.array([-3.7, -2.5, -1.0, -0.5, 0.0, 0.5, 1.5, 2.5, 100.9, 3.0])
            if source == "uint8" or to in (2,):
                values = np.abs(values)
            return str(g.Cast(g.input(10, dtype=source, values=values.astype(source)), to=to))


@graph
def cast_chain(g: Graph) -> str:
    x = g.Cast(g.Cast(g.Mul(g.input(3, 5), g.c(10.0)), to=7), to=6)
    return str(g.Cast(g.Cast(g.Greater(g.Cast(x, to=1), g.c(2.5)), to=2), to=1))


@graph
def rounding(g: Graph) -> list[str]:
    x = g.input(
        12, values=np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999997, -0.0, 3.5, 4.5, 1e10, -7.2])
    )
    return [g.Round(x), g.Floor(x), g.Ceil(x), g.Sign(x)]


@graph
def special_values(g: Graph) -> list[str]:
    x = g.input(8, values=np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -90.0, 90.0]))
    names = "IsNaN IsInf Sigmoid Tanh Exp Erf Softplus Abs".split()
    return [*(g.add(name, x) for name in names), g.Equal(x, x), g.Where(g.IsNaN(x), g.c(0.0), x)]


@graph
def infinities(g: Graph) -> list[str]:
    # NaN is left out: the machine's maximum of NaN and a number is the number, ONNX Runtime's is NaN.
    x = g.input(7, values=np.array([np.inf, -np.inf, 0.0, -0.0, 1.0, -90.0, 90.0]))
    return [g.Relu(x), g.Max(x, g.c(0.5)), g.Min(x, g.c(0.5)), g.Clip(x, g.c(-1.0), g.c(1.0)), g.Neg(x)]


@graph
def reduce_infinities(g: Graph) -> list[str]:
    low = np.full((4, 19), -np.inf)
    low[1, 3] = 2.0
    x = g.input(4, 19, values=low)
    lowest, highest = g.ReduceMax(x, g.c([1])), g.ReduceMin(g.Neg(x), g.c([1]))
    masked = g.Equal(lowest, g.c(np.float32(-np.inf)))
    columns = [g.ReduceMax(x, g.c([0])), g.ReduceMax(x)]
    return [lowest, highest, masked, *columns, g.Where(masked, g.c(0.0), g.Softmax(x, axis=1))]


@graph
def transcendental(g: Graph) -> list[str]:
    x = g.input(40, values=np.linspace(-0.99, 0.99, 40))
    names = "Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Atanh Exp Erf Tanh Softplus Softsign".split()
    return [g.add(name, x) for name in names] + [g.Acosh(g.Add(g.Abs(x), g.c(1.0))), g.Log(g.Abs(x))]


@graph
def transcendental_large(g: Graph) -> list[str]:
    x = g.input(40, values=np.linspace(-60, 60, 40))
    return [g.add(name, x) for name in "Sin Cos Tanh Sigmoid Exp Softplus Erf Atan".split()]


@graph
def powers(g: Graph) -> list[str]:
    x = g.input(9, values=np.linspace(-2, 2, 9))
    whole = [g.Pow(x, g.c(float(e))) for e in (0, 1, 2, 3, 4, -1, -2)]
    return [
        *whole,
        g.Pow(g.Abs(x), g.c(0.5)),
        g.Pow(g.Abs(x), g.input(9)),
        g.Pow(x, g.c(2)),
        g.Pow(g.c(2.0), x),
    ]


@graph
def comparisons(g: Graph) -> list[str]:
    a, b = g.input(4, 5, dtype="int64"), g.input(4, 5, dtype="int64")
    less, equal = g.Less(a, b), g.Equal(a, b)
    return [
        less,
        equal,
        g.GreaterOrEqual(a, b),
        g.LessOrEqual(a, b),
        g.And(less, equal),
        g.Or(less, equal),
        g.Xor(less, equal),
        g.Not(less),
    ]


@graph
def bool_input(g: Graph) -> list[str]:
    m = g.input(3, 4, dtype="bool")
    return [g.Where(m, g.input(3, 4), g.c(-1.0)), g.Cast(m, to=1), g.Not(m), g.Where(m, g.c(1), g.c(0))]


@graph
def where_broadcast(g: Graph) -> str:
    return str(g.Where(g.Greater(g.input(4, 1), g.c(0.0)), g.input(1, 5), g.input(3, 1, 1)))


@graph
def gathers(g: Graph) -> list[str]:
    x = g.input(3, 4, 5)
    i = g.input(2, 2, dtype="int64", values=np.array([[0, -1], [2, 1]]))
    return [
        g.Gather(x, i, axis=1),
        g.Gather(x, g.c(np.array([1, -1], np.int32)), axis=-1),
        g.GatherElements(x, g.c(np.array([[[0, -1, 2, 1, 0]]])), axis=1),
        g.GatherND(x, g.c([[0, 1], [2, -1]])),
    ]


@graph
def scatters(g: Graph) -> list[str]:
    x = g.input(4, 5)
    return [
        g.ScatterND(x, g.c([[1], [3]]), g.input(2, 5)),
        g.ScatterElements(x, g.c([[1, 0, 2, 3, -1]]), g.input(1, 5), axis=0),
        g.ScatterElements(x, g.c([[1, 0, 1, 3, -1]]), g.input(1, 5), axis=0, reduction="add"),
        g.ScatterND(x, g.c([[1], [1]]), g.input(2, 5), reduction="add"),
    ]


@graph
def scatter_runtime(g: Graph) -> str:
    i = g.input(2, 1, dtype="int64", values=np.array([[3], [0]]))
    return str(g.ScatterND(g.input(4, 5), i, g.input(2, 5)))


@graph
def tiles(g: Graph) -> list[str]:
    x = g.input(2, 3)
    return [
        g.Tile(x, g.c([2, 3])),
        g.Expand(x, g.c([4, 1, 3])),
        g.Expand(x, g.c([1])),
        g.Tile(x, g.c([1, 1])),
    ]


@graph
def splits(g: Graph) -> list[str]:
    x = g.input(2, 7, 4)
    return [*g.Split(x, axis=1, num_outputs=3, results=3), *g.Split(x, axis=-1, num_outputs=2, results=2)]


@graph
def squeezes(g: Graph) -> list[str]:
    x = g.input(1, 3, 1, 4)
    return [
        g.Squeeze(x),
        g.Squeeze(x, g.c([-2])),
        g.Unsqueeze(x, g.c([0, -1])),
        g.Flatten(x, axis=0),
        g.Flatten(x, axis=-1),
    ]


_REDUCTIONS = "Sum Mean Max Min Prod L1 L2 LogSum LogSumExp SumSquare".split()
for _reduction in _REDUCTIONS:

    @graph(name=f"reduce_{_reduction.lower()}")
    def _reduce(g: Graph, op: str = f"Reduce{_reduction}") -> list[str]:
        x = g.Add(g.Abs(g.input(2, 3, 4, 5)), g.c(0.1))
        return [
            g.add(op, x),
            g.add(op, x, g.c([1]), keepdims=0),
            g.add(op, x, g.c([-1, -2])),
            g.add(op, x, g.c([0, 2]), keepdims=0),
            g.add(op, x, noop_with_empty_axes=1),
        ]

    @graph(opset=11, name=f"reduce_{_reduction.lower()}_opset11")
    def _reduce_old(g: Graph, op: str = f"Reduce{_reduction}") -> list[str]:
        x = g.Add(g.Abs(g.input(2, 3, 4)), g.c(0.1))
        return [g.add(op, x, axes=[-1], keepdims=0), g.add(op, x, axes=[0, 2])]


@graph
def reduce_integers(g: Graph) -> list[str]:
    x = g.input(2, 3, 4, dtype="int64")
    return [
        g.ReduceSum(x, g.c([1])),
        g.ReduceMax(x, g.c([2])),
        g.ReduceProd(x, g.c([0])),
        g.ReduceMean(x, g.c([1])),
    ]


@graph
def argmax_forms(g: Graph) -> list[str]:
    x = g.input(3, 5, values=np.array([[1, 3, 3, 0, 2], [5, 5, 5, 5, 5], [0, 1, 2, 3, 4]]))
    return [
        g.ArgMax(x, axis=1),
        g.ArgMin(x, axis=1, keepdims=0),
        g.ArgMax(x, axis=0),
        g.ArgMax(x, axis=-1, select_last_index=1),
        g.ArgMin(x, axis=-1, select_last_index=1),
    ]


@graph
def cumsum_forms(g: Graph) -> list[str]:
    x = g.input(3, 5)
    one = g.c(1)
    return [
        g.CumSum(x, one),
        g.CumSum(x, g.c(0), reverse=1),
        g.CumSum(x, g.c(-1), exclusive=1),
        g.CumSum(x, one, exclusive=1, reverse=1),
        g.CumSum(g.input(4, dtype="int64"), g.c(0)),
    ]


@graph
def shape_arithmetic(g: Graph) -> str:
    x = g.input(2, 3, 4)
    shape = g.Shape(x)
    first = g.Gather(shape, g.c(0), axis=0)
    rest = g.ReduceProd(g.Slice(shape, g.c([1]), g.c([3])), keepdims=1)
    return str(g.Reshape(x, g.Concat(g.Unsqueeze(first, g.c([0])), rest, axis=0)))


@graph
def range_positions(g: Graph) -> str:
    x = g.input(2, 6, 4)
    length = g.Gather(g.Shape(x), g.c(1), axis=0)
    return str(g.Add(x, g.Gather(g.w(10, 4), g.Range(g.c(0), length, g.c(1)))))


@graph
def range_at_run_time(g: Graph) -> str:
    return str(g.Range(g.c(0), g.input(dtype="int64", values=np.array(5)), g.c(1)))


@graph
def nonzero(g: Graph) -> str:
    return str(g.NonZero(g.input(3, 4)))


@graph
def size_and_shape_outputs(g: Graph) -> list[str]:
    x = g.input(2, 3, 4)
    return [g.Shape(x), g.Size(x), g.Shape(x, start=1)]


@graph
def dropout_identity(g: Graph) -> str:
    return str(g.Dropout(g.Relu(g.input(2, 3)), g.c(0.5)))


@graph
def bit_operations(g: Graph) -> list[str]:
    a, b = g.input(6, dtype="int32"), g.input(6, dtype="int32")
    return [g.BitwiseAnd(a, b), g.BitwiseOr(a, b), g.BitwiseXor(a, b), g.BitwiseNot(a)]


for _dtype in ("float16", "float64"):

    @graph(name=f"net_{_dtype}")
    def _net(g: Graph, dtype: str = _dtype) -> str:
        x = g.input(1, 3, 10, 10, dtype=dtype)
        half = g.c(np.array(0.5, dtype))
        x = g.Relu(g.Conv(x, g.w(8, 3, 3, 3, dtype=dtype), g.w(8, dtype=dtype), pads=[1, 1, 1, 1]))
        x = g.Conv(x, g.w(8, 1, 3, 3, dtype=dtype), g.w(8, dtype=dtype), group=8, strides=[2, 2])
        x = g.Mul(g.Clip(g.Add(x, half), g.c(np.array(0, dtype)), g.c(np.array(6, dtype))), half)
        x = g.MaxPool(g.Mul(x, g.Sigmoid(x)), kernel_shape=[2, 2], strides=[2, 2])
        x = g.Flatten(g.GlobalAveragePool(x))
        return str(g.Softmax(g.Gemm(x, g.w(8, 5, dtype=dtype), g.w(5, dtype=dtype)), axis=1))

    @graph(name=f"pieces_{_dtype}")
    def _pieces(g: Graph, dtype: str = _dtype) -> list[str]:
        x = g.input(2, 6, 8, dtype=dtype)
        m = g.MatMul(x, g.Transpose(x, perm=[0, 2, 1]))
        n = g.LayerNormalization(x, g.positive(8, dtype=dtype), g.w(8, dtype=dtype))
        return [
            m,
            n,
            g.Erf(x),
            g.Tanh(x),
            g.Exp(x),
            g.ReduceMean(x, g.c([1])),
            g.Softmax(m, axis=-1),
            g.Pow(x, g.c(2.0)),
            g.Sqrt(g.Abs(x)),
        ]


@graph
def fp16_inside(g: Graph) -> str:
    x = g.Cast(g.input(1, 3, 8, 8), to=10)
    x = g.Relu(g.Conv(x, g.w(4, 3, 3, 3, dtype="float16"), g.w(4, dtype="float16")))
    return str(g.Cast(x, to=1))


def _classifier(g: Graph) -> str:
    x = g.Relu(g.bn(g.conv(g.input(1, 3, 12, 12), 3, 8, strides=[2, 2]), 8))
    x = g.MaxPool(g.Add(x, g.conv(x, 8, 8)), kernel_shape=[2, 2], strides=[2, 2])
    x = g.Softmax(g.Gemm(g.Flatten(x), g.w(10, 72), g.w(10), transB=1), axis=1)
    return str(x)


for _opset in range(7, 29):
    graph(_classifier, opset=_opset, name=f"classifier_opset{_opset}")


def _attentive(g: Graph) -> str:
    x = g.input(1, 5, 8)
    scores = g.Softmax(g.MatMul(x, g.Transpose(x, perm=[0, 2, 1])), axis=-1)
    y = g.Add(x, g.linear(g.MatMul(scores, x), 8, 8))
    a, b = g.Slice(y, g.c([0]), g.c([4]), g.c([2])), g.Slice(y, g.c([4]), g.c([8]), g.c([2]))
    return str(
        g.Concat(
            g.Mul(a, g.Sigmoid(b)), g.Clip(y, g.c(-1.0), g.c(1.0)), g.Where(g.Greater(a, b), a, b), axis=2
        )
    )


for _opset in range(11, 29):
    graph(_attentive, opset=_opset, name=f"attentive_opset{_opset}")


@graph(opset=10)
def old_squeeze_unsqueeze(g: Graph) -> str:
    x = g.Unsqueeze(g.input(2, 3), axes=[1])
    x = g.Squeeze(g.Clip(x, min=-0.5, max=0.5), axes=[1])
    return str(g.Softmax(g.Reshape(x, g.c([1, 2, 3])), axis=1))


@graph(opset=7)
def old_pad_batchnorm(g: Graph) -> str:
    x = g.Pad(g.input(1, 3, 5, 5), pads=[0, 0, 1, 1, 0, 0, 1, 1], value=0.5)
    return g.bn(g.conv(x, 3, 4), 4)


@graph(opset=12)
def softmax_old_meaning(g: Graph) -> str:
    return str(g.Softmax(g.input(2, 3, 4), axis=1))


@graph(opset=12)
def dropout_opset12(g: Graph) -> list[str]:
    return list(g.Dropout(g.Relu(g.input(2, 3)), results=2))


@graph
def loop_constant_trip(g: Graph) -> str:
    from onnx import TensorProto, helper

    body = helper.make_graph(
        [helper.make_node("Identity", ["cond"], ["again"]), helper.make_node("Add", ["v", "v"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("cond", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, [2, 3]),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [2, 3]),
        ],
    )
    return str(g.Loop(g.c(3), g.c(np.array(True)), g.input(2, 3), body=body))


@graph
def if_constant(g: Graph) -> str:
    from onnx import TensorProto, helper

    x = g.input(2, 3)
    shape = [helper.make_tensor_value_info("branch", TensorProto.FLOAT, [2, 3])]
    then = helper.make_graph([helper.make_node("Relu", [x], ["branch"])], "then", [], shape)
    other = helper.make_graph([helper.make_node("Neg", [x], ["branch"])], "other", [], shape)
    return str(g.If(g.c(np.array(True)), then_branch=then, else_branch=other))


@graph
def many_inputs(g: Graph) -> str:
    return str(g.Sum(*(g.input(2, 3) for _ in range(9))))


@graph
def long_chain(g: Graph) -> str:
    x = g.input(4, 16)
    for index in range(150):
        x = g.add(("Relu", "Neg", "Tanh")[index % 3], x)
    return str(x)


@graph
def wide_concat(g: Graph) -> str:
    x = g.input(1, 4, 6)
    return str(g.Concat(*(g.Add(x, g.c(float(i))) for i in range(40)), axis=1))


@graph
def deep_matmul(g: Graph) -> str:
    x = g.input(1, 33)
    for inner, outer in ((33, 17), (17, 1), (1, 64), (64, 127)):
        x = g.Relu(g.linear(x, inner, outer))
    return str(x)


@graph
def divide_by_zero(g: Graph) -> str:
    """Infinities and what comes of them; a stored 0 as divisor was refused by TVM when it folded it."""
    x = g.conv(g.input(1, 3, 5, 5), 3, 4)
    return str(g.Min(g.Max(g.Div(x, g.c(0.0)), g.c(-4.0)), g.c(4.0)))


@graph
def reversed_behind_a_reshape(g: Graph) -> list[str]:
    """In one kernel TVM lost the constant of ``(61 - i) % 96`` when it flattened what is read."""
    x = g.input(4, 2, 3, 1, 4)
    flat = g.Slice(g.Reshape(g.Relu(x), g.c([-1])), g.c([61]), g.c([-97]), g.c([0]), g.c([-1]))
    rows = g.Slice(g.Reshape(x, g.c([8, 12])), g.c([6]), g.c([-9]), g.c([0]), g.c([-2]))
    return [flat, g.Reshape(g.Relu(rows), g.c([3, 2, 8]))]


@graph
def output_is_an_input(g: Graph) -> list[str]:
    x = g.input(2, 3)
    return [g.Relu(x), x]
