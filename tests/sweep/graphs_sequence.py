"""Sequence networks: transformers, recurrent cells, speech front ends, embeddings and masks."""

from __future__ import annotations

import numpy as np

from tests.sweep.graphs import Graph, graph


def _layer_norm_parts(g: Graph, x: str, width: int) -> str:
    centred = g.Sub(x, g.ReduceMean(x, g.c([-1]), keepdims=1))
    variance = g.ReduceMean(g.Pow(centred, g.c(2.0)), g.c([-1]), keepdims=1)
    y = g.Div(centred, g.Sqrt(g.Add(variance, g.c(1e-5))))
    return str(g.Add(g.Mul(y, g.positive(width)), g.w(width)))


def _heads(g: Graph, x: str, batch: int, length: int, heads: int, size: int) -> str:
    return str(g.Transpose(g.Reshape(x, g.c([batch, length, heads, size])), perm=[0, 2, 1, 3]))


def _attention(g: Graph, x: str, batch: int, length: int, width: int, heads: int, mask: str = "") -> str:
    size = width // heads
    q, k, v = (_heads(g, g.linear(x, width, width), batch, length, heads, size) for _ in range(3))
    scores = g.Div(g.MatMul(q, g.Transpose(k, perm=[0, 1, 3, 2])), g.c(float(np.sqrt(size))))
    if mask:
        scores = g.Add(scores, mask)
    context = g.MatMul(g.Softmax(scores, axis=-1), v)
    joined = g.Reshape(g.Transpose(context, perm=[0, 2, 1, 3]), g.c([batch, length, width]))
    return g.linear(joined, width, width)


def _gelu(g: Graph, x: str) -> str:
    return str(g.Mul(g.Mul(x, g.Add(g.Erf(g.Div(x, g.c(1.4142135))), g.c(1.0))), g.c(0.5)))


@graph
def attention_block(g: Graph) -> str:
    x = g.input(2, 7, 16)
    y = g.Add(x, _attention(g, _layer_norm_parts(g, x, 16), 2, 7, 16, 4))
    z = g.linear(_gelu(g, g.linear(g.LayerNormalization(y, g.positive(16), g.w(16)), 16, 32)), 32, 16)
    return str(g.Add(y, z))


@graph
def attention_fused_qkv(g: Graph) -> str:
    x = g.linear(g.input(1, 10, 12), 12, 36)
    x = g.Transpose(g.Reshape(x, g.c([1, 10, 3, 3, 4])), perm=[2, 0, 3, 1, 4])
    q, k, v = (g.Gather(x, g.c(i), axis=0) for i in range(3))
    a = g.Softmax(g.Mul(g.MatMul(q, g.Transpose(k, perm=[0, 1, 3, 2])), g.c(0.5)), axis=3)
    return str(g.Reshape(g.Transpose(g.MatMul(a, v), perm=[0, 2, 1, 3]), g.c([1, 10, 12])))


@graph
def attention_split_qkv(g: Graph) -> str:
    x = g.linear(g.input(1, 10, 12), 12, 36)
    q, k, v = g.Split(x, g.c([12, 12, 12]), axis=-1, results=3)
    a = g.Softmax(g.MatMul(q, g.Transpose(k, perm=[0, 2, 1])), axis=-1)
    return str(g.MatMul(a, v))


@graph
def attention_masked(g: Graph) -> str:
    ids = g.input(1, 9, dtype="int64")
    mask = g.input(1, 9, dtype="int64", values=np.array([[1, 1, 1, 1, 1, 1, 0, 0, 0]]))
    x = g.Add(g.Gather(g.w(30, 16), ids), g.w(9, 16))
    m = g.Cast(g.Unsqueeze(mask, g.c([1, 2])), to=1)
    m = g.Mul(g.Sub(g.c(1.0), m), g.c(-3.4028235e38))
    return _attention(g, _layer_norm_parts(g, x, 16), 1, 9, 16, 2, m)


@graph
def attention_causal_where(g: Graph) -> str:
    x = g.input(1, 6, 8)
    allowed = g.c(np.tril(np.ones((1, 6, 6), bool)))
    scores = g.MatMul(x, g.Transpose(x, perm=[0, 2, 1]))
    scores = g.Where(allowed, scores, g.c(np.float32(-np.inf)))
    return str(g.MatMul(g.Softmax(scores, axis=-1), x))


@graph
def attention_trilu(g: Graph) -> str:
    x = g.input(1, 6, 8)
    mask = g.Trilu(g.ConstantOfShape(g.c([6, 6]), value=_tensor(-1e9)), g.c(1), upper=1)
    return str(g.Softmax(g.Add(g.MatMul(x, g.Transpose(x, perm=[0, 2, 1])), mask), axis=-1))


def _tensor(value: float) -> object:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.array([value], np.float32))


@graph(opset=23)
def attention_operator(g: Graph) -> str:
    q, k, v = (g.input(1, 2, 6, 8) for _ in range(3))
    return str(g.Attention(q, k, v))


@graph(opset=23)
def rms_norm(g: Graph) -> str:
    return str(g.RMSNormalization(g.input(2, 5, 12), g.positive(12)))


@graph
def rms_norm_parts(g: Graph) -> str:
    x = g.input(2, 5, 12)
    y = g.Mul(x, g.Reciprocal(g.Sqrt(g.Add(g.ReduceMean(g.Pow(x, g.c(2.0)), g.c([-1])), g.c(1e-6)))))
    return str(g.Mul(y, g.w(12)))


@graph
def rotary(g: Graph) -> str:
    x = g.input(1, 2, 6, 8)
    angles = np.outer(np.arange(6), 10000 ** (-np.arange(4) / 4)).astype(np.float32)
    cos, sin = (g.c(np.concatenate([f(angles)] * 2, -1)) for f in (np.cos, np.sin))
    a = g.Slice(x, g.c([0]), g.c([4]), g.c([3]))
    b = g.Slice(x, g.c([4]), g.c([2**63 - 1]), g.c([3]))
    return str(g.Add(g.Mul(x, cos), g.Mul(g.Concat(g.Neg(b), a, axis=-1), sin)))


@graph
def window_partition(g: Graph) -> str:
    x = g.Transpose(g.conv(g.input(1, 3, 8, 8), 3, 8), perm=[0, 2, 3, 1])
    x = g.Concat(g.Slice(x, g.c([2]), g.c([8]), g.c([1])), g.Slice(x, g.c([0]), g.c([2]), g.c([1])), axis=1)
    x = g.Reshape(x, g.c([1, 2, 4, 2, 4, 8]))
    x = g.Reshape(g.Transpose(x, perm=[0, 1, 3, 2, 4, 5]), g.c([-1, 16, 8]))
    x = _attention(g, x, 4, 16, 8, 2)
    x = g.Transpose(g.Reshape(x, g.c([1, 2, 2, 4, 4, 8])), perm=[0, 1, 3, 2, 4, 5])
    return str(g.Reshape(x, g.c([1, 8, 8, 8])))


@graph
def vit_embedding(g: Graph) -> str:
    x = g.conv(g.input(1, 3, 16, 16), 3, 12, 4, strides=[4, 4], pads=[0, 0, 0, 0])
    x = g.Transpose(g.Reshape(x, g.c([1, 12, -1])), perm=[0, 2, 1])
    x = g.Concat(g.Expand(g.w(1, 1, 12), g.c([1, 1, 12])), x, axis=1)
    x = g.Add(x, g.w(1, 17, 12))
    return str(g.Gather(g.LayerNormalization(x, g.positive(12), g.w(12)), g.c(0), axis=1))


@graph
def matmul_broadcast(g: Graph) -> list[str]:
    a, b = g.input(2, 1, 3, 4), g.input(5, 4, 6)
    v = g.input(4)
    return [g.MatMul(a, b), g.MatMul(a, v), g.MatMul(v, b), g.MatMul(v, g.w(4, 3)), g.MatMul(v, v)]


@graph
def matmul_weight_left(g: Graph) -> str:
    return str(g.MatMul(g.w(5, 4), g.input(3, 4, 7)))


@graph
def gemm_forms(g: Graph) -> list[str]:
    a = g.input(4, 6)
    return [
        g.Gemm(a, g.w(6, 5)),
        g.Gemm(a, g.w(5, 6), g.w(4, 1), transB=1, alpha=0.5, beta=2.0),
        g.Gemm(a, g.w(4, 5), g.c(0.5), transA=1),
        g.Gemm(a, a, transA=1),
        g.Gemm(a, g.w(6, 1), g.w(1)),
    ]


@graph
def einsum_forms(g: Graph) -> list[str]:
    a, b = g.input(2, 3, 4), g.input(2, 5, 4)
    return [
        g.Einsum(a, b, equation="bij,bkj->bik"),
        g.Einsum(a, equation="bij->bji"),
        g.Einsum(a, g.w(4, 7), equation="...j,jk->...k"),
    ]


for _op, _gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
    for _direction in ("forward", "bidirectional", "reverse"):

        def _recurrent(g: Graph, op: str = _op, gates: int = _gates, direction: str = _direction) -> str:
            d = 2 if direction == "bidirectional" else 1
            extra = {"linear_before_reset": 1} if op == "GRU" else {}
            results = 3 if op == "LSTM" else 2
            out = g.add(
                op,
                g.input(5, 2, 6),
                g.w(d, gates * 4, 6),
                g.w(d, gates * 4, 4),
                g.w(d, 2 * gates * 4),
                results=results,
                hidden_size=4,
                direction=direction,
                **extra,
            )
            return str(g.Reshape(g.Transpose(out[0], perm=[0, 2, 1, 3]), g.c([5, 2, -1])))

        graph(_recurrent, name=f"{_op.lower()}_{_direction}")


@graph
def gru_default(g: Graph) -> list[str]:
    return list(g.GRU(g.input(3, 1, 4), g.w(1, 15, 4), g.w(1, 15, 5), hidden_size=5, results=2))


@graph
def lstm_states(g: Graph) -> list[str]:
    h, c = g.input(1, 1, 5), g.input(1, 1, 5)
    x = g.input(1, 1, 4)
    return list(g.LSTM(x, g.w(1, 20, 4), g.w(1, 20, 5), g.w(1, 40), "", h, c, hidden_size=5, results=3))


@graph
def lstm_lengths(g: Graph) -> str:
    lengths = g.c(np.array([3, 5], np.int32))
    return str(g.LSTM(g.input(5, 2, 4), g.w(1, 20, 4), g.w(1, 20, 5), g.w(1, 40), lengths, hidden_size=5))


@graph
def stft_by_conv(g: Graph) -> str:
    x = g.Unsqueeze(g.Pad(g.input(1, 160), g.c([0, 16, 0, 16]), mode="reflect"), g.c([1]))
    x = g.Conv(x, g.w(34, 1, 32), strides=[8])
    real = g.Slice(x, g.c([0]), g.c([17]), g.c([1]))
    imaginary = g.Slice(x, g.c([17]), g.c([2**31]), g.c([1]))
    power = g.Add(g.Mul(real, real), g.Pow(imaginary, g.c(2.0)))
    mel = g.MatMul(g.positive(10, 17), power)
    return str(g.Log(g.Clip(mel, g.c(1e-5))))


@graph
def stft_operator(g: Graph) -> str:
    x = g.input(1, 64, 1)
    return str(g.STFT(x, g.c(8), g.c(np.hanning(16).astype(np.float32)), g.c(16)))


@graph
def dft_operator(g: Graph) -> str:
    return str(g.DFT(g.input(1, 16, 1), axis=1, onesided=1))


@graph
def tcn(g: Graph) -> str:
    x = g.input(1, 6, 40)
    for d in (1, 2, 4):
        y = g.Pad(x, g.c([0, 0, 2 * d, 0, 0, 0]))
        y = g.Conv(y, g.w(6, 6, 3), g.w(6), dilations=[d])
        x = g.Add(x, g.Mul(g.Tanh(y), g.Sigmoid(y)))
    return str(g.Gather(x, g.c(-1), axis=2))


@graph
def glu_conformer(g: Graph) -> str:
    x = g.Transpose(g.linear(g.input(1, 12, 8), 8, 16), perm=[0, 2, 1])
    a, b = g.Split(x, axis=1, num_outputs=2, results=2)
    x = g.conv(g.Mul(a, g.Sigmoid(b)), 8, 8, [5], group=8)
    return str(g.Transpose(g.Mul(x, g.Sigmoid(x)), perm=[0, 2, 1]))


@graph
def embedding_mean(g: Graph) -> str:
    ids = g.input(2, 7, dtype="int64")
    mask = g.Cast(g.Not(g.Equal(ids, g.c(0))), to=1)
    x = g.Mul(g.Gather(g.w(11, 6), ids), g.Unsqueeze(mask, g.c([2])))
    count = g.Clip(g.ReduceSum(mask, g.c([1]), keepdims=1), g.c(1.0))
    mean = g.Div(g.ReduceSum(x, g.c([1]), keepdims=0), count)
    return str(g.Div(mean, g.ReduceL2(mean, g.c([1]))))


@graph
def embedding_int32_ids(g: Graph) -> str:
    return str(g.Gather(g.w(11, 6), g.input(2, 7, dtype="int32")))


@graph
def one_hot(g: Graph) -> list[str]:
    ids = g.input(5, dtype="int64")
    values = g.c(np.array([0.0, 1.0], np.float32))
    return [g.OneHot(ids, g.c(6), values), g.OneHot(ids, g.c([6]), values, axis=0)]


@graph
def kv_cache_step(g: Graph) -> list[str]:
    past, new = g.input(1, 2, 5, 4), g.input(1, 2, 1, 4)
    key = g.Concat(past, new, axis=2)
    a = g.Softmax(g.MatMul(new, g.Transpose(key, perm=[0, 1, 3, 2])), axis=-1)
    return [g.MatMul(a, key), key]


@graph
def topk_sampling(g: Graph) -> list[str]:
    logits = g.linear(g.input(1, 8), 8, 20)
    best, where = g.TopK(logits, g.c([4]), results=2)
    return [g.Softmax(best), where, g.ArgMax(logits, axis=-1), g.ReduceMax(logits, g.c([-1]))]
