"""What is computed of rows whose number depends on data, beside ONNX Runtime; and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from deploycc.types import DeployccError
from tests.counting.line import Array, Line, counted
from tests.planning.harness import ARM64, X86_64, find_emulator


def rng() -> np.random.Generator:
    return np.random.default_rng()


BOXES, CLASSES = 83, 3

DETECTOR = """g (float[1,83,4] deltas, float[1,83,3] logits, float[83,4] anchors)
=> (float[n,4] boxes, float[n] scores, int64[n] classes, float[n,6] together, float[m,4] few)
<int64[1] most = {7}, float[1] iou = {0.45}, float[1] low = {0.3}, int64[1] c0 = {0}, int64[1] c1 = {1},
 int64[1] c2 = {2}, int64[1] c3 = {3}, int64[1] c4 = {4}, int64[1] one = {1}, int64[1] m1 = {-1},
 float half = {0.5}, int64 zero = {0}, int64 first = {1}, int64 last = {2}, int64[1] five = {5},
 int64[2] flat = {-1, 4}> {
 ac = Slice(anchors, c0, c2, one)      as = Slice(anchors, c2, c4, one)
 dc = Slice(deltas, c0, c2, c2)        ds = Slice(deltas, c2, c4, c2)
 moved = Mul(dc, as)                   centre = Add(moved, ac)
 grown = Exp(ds)                       size = Mul(grown, as)
 reach = Mul(size, half)               low_corner = Sub(centre, reach)   high_corner = Add(centre, reach)
 corners = Concat<axis=2>(low_corner, high_corner)
 probabilities = Sigmoid(logits)       by_class = Transpose<perm=[0,2,1]>(probabilities)
 selected = NonMaxSuppression(corners, by_class, most, iou, low)
 class_column = Slice(selected, c1, c2, one)   classes = Squeeze(class_column, one)
 box_column = Gather<axis=1>(selected, last)
 flat_boxes = Reshape(corners, flat)
 boxes = Gather(flat_boxes, box_column)
 place = Slice(selected, c0, c3, one)
 scores = GatherND(by_class, place)
 score_column = Unsqueeze(scores, one)
 class_rows = Unsqueeze(classes, one)  class_float = Cast<to=1>(class_rows)
 together = Concat<axis=1>(boxes, score_column, class_float)
 few = Slice(boxes, c0, five, c0) }"""


def detections(bias: float) -> list[Array]:
    deltas = rng().standard_normal((1, BOXES, 4)).astype(np.float32) * 0.3
    logits = (rng().standard_normal((1, BOXES, CLASSES)) + bias).astype(np.float32)
    anchors = np.concatenate([rng().random((BOXES, 2)) * 4, rng().random((BOXES, 2)) + 0.5], 1)
    return [deltas, logits, anchors.astype(np.float32)]


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(X86_64, id="x86-64"),
        pytest.param(
            ARM64,
            id="arm64",
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif(
                    find_emulator(ARM64) is None, reason="no qemu-aarch64 (Debian: qemu-user)"
                ),
            ],
        ),
    ],
)
def test_the_rest_of_a_detector(target) -> None:  # type: ignore[no-untyped-def]
    line = Line(DETECTOR, target=target, simplify=True)
    none, some, many = line.check(*(detections(bias) for bias in (-99.0, -1.0, 9.0)), rtol=1e-4)
    assert none["boxes_count"] == none["few_count"] == 0
    assert 0 < some["boxes_count"] <= many["boxes_count"] == 7 * CLASSES
    assert many["few_count"] == 5
    shapes = {info.name: info.shape for info in line.model.outputs}
    assert shapes["together"] == (21, 6)
    assert shapes["few"] == (5, 4)


CHAINED = """g (float[61,4] boxes, float[61] scores, float[9,5] x)
=> (float[n,4] kept, float[n] kept_scores, float[k] positive, int64[2,z] again, float[u] different,
    int64[w] back, int64[u] often, float[j,3] product, float[j] reduced,
    float[3] total, int64[1] how_many)
<float threshold = {0.6}, int64[1] c0 = {0}, int64[1] c1 = {1}, int64[1] most = {100}, float[1] iou = {0.3},
 float zero = {0}, int64 last = {2}, float[3] w0 = {0.5, 1, 2},
 float[5,3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}> {
 sure = Greater(scores, threshold)
 some = Compress<axis=0>(boxes, sure)       some_scores = Compress<axis=0>(scores, sure)
 batch = Unsqueeze(some, c0)                row = Unsqueeze(some_scores, c0)   class = Unsqueeze(row, c0)
 selected = NonMaxSuppression(batch, class, most, iou)
 index = Gather<axis=1>(selected, last)
 kept = Gather(some, index)                 kept_scores = Gather(some_scores, index)
 above = Greater(x, zero)
 where = NonZero(above)                     rows = Transpose(where)
 positive = GatherND(x, rows)
 large = Floor(positive)                    nonzero = Greater(large, zero)
 kept_where = Compress<axis=1>(where, nonzero)
 again = Compress<axis=1>(where, nonzero)
 different, , back, often = Unique(large)
 sums = ReduceSum<keepdims=0>(x, c1)        rising = Greater(sums, zero)
 picked = NonZero(rising)                   flat = Squeeze(picked, c0)
 lines = Gather(x, flat)
 product = MatMul(lines, w)                 soft = Softmax<axis=1>(lines)
 above_one = Add(product, w0)               total = ReduceSum<keepdims=0>(above_one, c0)
 ones = Equal(flat, flat)                   ones_int = Cast<to=7>(ones)    how_many = ReduceSum(ones_int, c0)
 reduced = ReduceMax<keepdims=0>(soft, c1) }"""


def test_counting_what_was_counted() -> None:
    line = Line(CHAINED, simplify=True)
    feeds = []
    for shift in (-9.0, 0.0, 0.5, 9.0):
        corners = np.concatenate([rng().random((61, 2)), 1 + rng().random((61, 2))], 1).astype(np.float32)
        x = (rng().standard_normal((9, 5)) * 1.5 + shift).astype(np.float32)
        feeds.append([corners, (rng().random(61) + shift).astype(np.float32), x])
    results = line.check(*feeds)
    assert [int(result["positive_count"]) for result in results][::3] == [0, 45]


REFUSED = {
    "a mean of the rows": ("s = ReduceMean<keepdims=0>(p, c0)", "s", "DC231"),
    "rows behind rows": ("s = Concat<axis=0>(p, p)", "s", "DC231"),
    "a softmax along them": ("s = Softmax<axis=0>(p)", "s", "DC231"),
    "a flat reshape": ("s = Reshape(q, whole)", "s", "DC231"),
    "a fixed reshape": ("s = Reshape(p, fixed)", "s", "DC231"),
    "the last row": ("s = Gather(p, m1)", "s", "DC231"),
    "the last rows": ("s = Slice(p, m1, far)", "s", "DC231"),
    "rows sorted": ("s, t = TopK(p, c1)", "s", "DC231"),
    "a product over rows": ("s = MatMul(p, p)", "s", "DC231"),
    "rows beside a fixed extent": ("s = Add(p, x)", "s", "DC232"),
    "two numbers of rows": (
        "n2 = NonZero(y)  i2 = Squeeze(n2, c0)  p2 = Gather(x, i2)  s = Add(p, p2)",
        "s",
        "DC232",
    ),
    "rows of columns": ("u = Unsqueeze(p, c1)  s = Compress<axis=1>(grid, b)  v = Mul(u, s)", "v", "DC232"),
    "their number": ("s = Shape(p)", "s", "DC233"),
    "scattered rows": ("s = ScatterElements(x, i, p)", "s", "DC231"),
    "divided by rows": ("s = Div(i, i)", "s", "DC231"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_mixes_rows_is_refused(what: str) -> None:
    text, output, code = REFUSED[what]
    kind = {"their number": "int64", "divided by rows": "int64"}.get(what, "float")
    made = counted(f"""
        g (float[12] x, float[12] y, bool[5] b, float[1,5] grid) => ({kind}[k] {output})
        <int64[1] c0 = {{0}}, int64[1] c1 = {{1}}, int64[1] m1 = {{-1}}, int64[1] far = {{99}},
         int64[1] whole = {{-1}}, int64[2] fixed = {{4, 3}}> {{
        nonzero = NonZero(x)  i = Squeeze(nonzero, c0)  p = Gather(x, i)
        pair = Unsqueeze(p, c1)  q = Concat<axis=1>(pair, pair)  {text} }}""")
    assert made.counts is not None
    found = made.counts.faults
    assert [d.code for d in found] == [code]
    assert "'p'" in found[0].got or "'q'" in found[0].got or "'i'" in found[0].got or "'u'" in found[0].got
    assert found[0].help


def test_a_source_within_a_branch_is_refused() -> None:
    made = counted("""g (float[4] x, bool c) => (int64[1,n] y) {
        y = If<then_branch = one () => (int64[1,k] a) { a = NonZero(x) },
               else_branch = two () => (int64[1,m] b) { b = NonZero(x) }>(c) }""")
    assert made.counts is not None
    assert [d.code for d in made.counts.faults] == ["DC233"]


@pytest.mark.parametrize(
    ("most", "said"),
    [
        ({"nothing": 3}, "--max nothing: the model has nothing of that name"),
        ({"y": 0}, "--max y: no rows at all"),
    ],
)
def test_a_maximum_of_nothing_is_refused(most: dict[str, int], said: str) -> None:
    with pytest.raises(DeployccError, match=said) as refused:
        counted("g (float[4] x) => (int64[1,n] y) { y = NonZero(x) }", most=most)
    assert [d.code for d in refused.value.diagnostics] == ["DC230"]


def test_a_suppression_that_selects_nothing_is_refused() -> None:
    made = counted("g (float[1,5,4] b, float[1,1,5] s) => (int64[n,3] y) { y = NonMaxSuppression(b, s) }")
    assert made.counts is not None
    assert [d.code for d in made.counts.faults] == ["DC234"]
    assert "max_output_boxes_per_class" in made.counts.faults[0].help
