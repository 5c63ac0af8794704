"""NonZero, Compress, Unique, NonMaxSuppression and TopK beside ONNX Runtime, with their counts."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

from deploycc.reference import run
from tests.counting.line import Array, Line, simplified
from tests.planning.harness import ARM64, X86_64, find_emulator, run_plan

TARGETS = [
    pytest.param(X86_64, id="x86-64"),
    pytest.param(
        ARM64,
        id="arm64",
        marks=[
            pytest.mark.slow,
            pytest.mark.skipif(find_emulator(ARM64) is None, reason="no qemu-aarch64 (Debian: qemu-user)"),
        ],
    ),
]


def rng() -> np.random.Generator:
    return np.random.default_rng()


SELECTING = """g (float[5,7,3] x, bool[7] c, int64[4,2,1,13] e, bool[11] b, float16[3,17] h)
=> (int64[3,a] where, float[5,p,3] rows, float[q] all, int64[4,s] wheree, int64[1,t] whereb,
    float16[3,u] halves, int64[2,v] whereh) {
 where = NonZero(x)  wheree = NonZero(e)  whereb = NonZero(b)  whereh = NonZero(h)
 rows = Compress<axis=1>(x, c)  all = Compress(x, c)  halves = Compress<axis=-1>(h, b) }"""


def selecting_feed(share: float) -> list[Array]:
    def sparse(shape: tuple[int, ...]) -> Array:
        return np.where(rng().random(shape) < share, rng().integers(-9, 9, shape) * 2 + 1, 0)

    kinds = [
        ((5, 7, 3), "float32"),
        ((7,), "bool"),
        ((4, 2, 1, 13), "int64"),
        ((11,), "bool"),
        ((3, 17), "float16"),
    ]
    return [sparse(shape).astype(kind) for shape, kind in kinds]


@pytest.mark.parametrize("target", TARGETS)
def test_rows_are_selected(target) -> None:  # type: ignore[no-untyped-def]
    line = Line(SELECTING, target=target)
    results = line.check(*(selecting_feed(share) for share in (0.0, 0.03, 0.4, 1.0)))
    assert [int(result["where_count"]) for result in results][::3] == [0, 105]
    assert results[-1]["rows_count"] == 7


UNIQUE = """g (float[37] x, int64[6,5] t, int8[13,2] s, double[4,3,8] d)
=> (float[k] v, int64[k] i, int64[m] inv, int64[k] n, int64[a,b] t1, int64[a] t2, int64[c] t3, int8[e,f] s0,
    int64[e] s1, int64[g] s2, int64[e] s3, double[p,q,r] d0, int64[r] d3) {
 v, i, inv, n = Unique(x)
 t1, t2 = Unique<axis=1, sorted=0>(t)
 t3 = Unique<sorted=0>(t)
 s0, s1, s2, s3 = Unique<axis=0>(s)
 d0, , , d3 = Unique<axis=-1, sorted=0>(d) }"""


@pytest.mark.parametrize("target", TARGETS)
def test_unique_rows(target) -> None:  # type: ignore[no-untyped-def]
    kinds = [((37,), "float32"), ((6, 5), "int64"), ((13, 2), "int8"), ((4, 3, 8), "float64")]
    feeds = [[rng().integers(-most, most + 1, s).astype(k) for s, k in kinds] for most in (0, 1, 3, 99)]
    line = Line(UNIQUE, target=target)
    assert line.check(*feeds)[0]["v_count"] == 1


TOP_K = """g (float[4,9,5] x, int64[3,31] i, int32[67] j, double[2,8] d, float[1,1000] long)
=> (float[4,9,3] v0, int64[4,9,3] i0, float[4,9,5] v1, int64[4,9,5] i1, float[4,1,5] v2, int64[4,1,5] i2,
    int64[3,30] v3, int64[3,30] i3, int32[66] v4, int64[66] i4, double[2,5] v5, int64[2,5] i5,
    float[1,100] v6, int64[1,100] i6, float[1,1000] v7, int64[1,1000] i7)
<int64[1] k0 = {3}, int64[1] k1 = {9}, int64[1] k2 = {1}, int64[1] k3 = {30}, int64[1] k4 = {66},
 int64[1] k5 = {5}, int64[1] k6 = {100}, int64[1] k7 = {1000}> {
 v0, i0 = TopK(x, k0)
 v1, i1 = TopK<axis=1, largest=0>(x, k1)
 v2, i2 = TopK<axis=-2>(x, k2)
 v3, i3 = TopK<largest=0>(i, k3)
 v4, i4 = TopK(j, k4)
 v5, i5 = TopK(d, k5)
 v6, i6 = TopK(long, k6)
 v7, i7 = TopK<largest=0>(long, k7) }"""


@pytest.mark.parametrize("target", TARGETS)
def test_the_largest_and_smallest(target) -> None:  # type: ignore[no-untyped-def]
    kinds = [((4, 9, 5), "f4"), ((3, 31), "i8"), ((67,), "i4"), ((2, 8), "f8"), ((1, 1000), "f4")]
    ties = [rng().integers(-3, 4, shape).astype(kind) for shape, kind in kinds]
    spread = [(rng().standard_normal(shape) * 2**20).astype(kind) for shape, kind in kinds]
    extreme = [np.where(x > 0, x, np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min) for x in ties]
    Line(TOP_K, target=target).check(
        ties, spread, [x.astype(y.dtype) for x, y in zip(extreme, ties, strict=True)]
    )


def test_without_sorting_it_is_sorted_all_the_same() -> None:
    model = simplified("""g (float[1,9] x) => (float[1,4] v, int64[1,4] i) <int64[1] k = {4}> {
        v, i = TopK<sorted=0>(x, k) }""")
    values, _ = run(model.proto, [np.array([[3, 1, 4, 1, 5, 9, 2, 6, 5]], np.float32)])[0]
    assert values.tolist() == [[9, 6, 5, 5]]


def test_no_number_comes_last_whichever_way_is_sorted() -> None:
    line = Line("""g (float[6] x) => (float[6] u, int64[6] i, float[6] v, int64[6] j) <int64[1] k = {6}> {
        u, i = TopK(x, k)  v, j = TopK<largest=0>(x, k) }""")
    got = run_plan(line.plan, [np.array([np.nan, 1, -np.inf, np.nan, np.inf, -2], np.float32)])
    assert got[1].tolist() == [4, 1, 5, 2, 0, 3]
    assert got[3].tolist() == [2, 5, 1, 4, 0, 3]


SUPPRESSING = """g (float[2,53,4] b, float[2,3,53] s, int64[1] most, float[1] iou, float[1] low)
=> (int64[a,3] plain, int64[c,3] centred, int64[d,3] runtime, int64[e,3] unfiltered)
<int64[1] m = {5}, float[1] t = {0.5}, float[1] l = {0.25}> {
 plain = NonMaxSuppression(b, s, m, t, l)
 centred = NonMaxSuppression<center_point_box=1>(b, s, m, t)
 runtime = NonMaxSuppression(b, s, most, iou, low)
 unfiltered = NonMaxSuppression(b, s, m) }"""


def boxes(*shape: int) -> Array:
    """Boxes on a coarse grid: many are equal and overlaps equal the threshold; corners in any order."""
    return rng().integers(0, 7, (*shape, 4)).astype(np.float32)


@pytest.mark.parametrize("target", TARGETS)
def test_boxes_are_suppressed(target) -> None:  # type: ignore[no-untyped-def]
    line = Line(SUPPRESSING, target=target)
    feeds = []
    for most, iou, low, offset in (
        (0, 0.5, 0.0, 0.0),
        (60, 0.25, 0.5, 0.0),
        (3, 0.0, 0.9, -1.0),
        (60, 1.0, -1.0, 1.0),
    ):
        scores = (rng().integers(0, 9, (2, 3, 53)) / 8 + offset).astype(np.float32)
        limits = [np.array([most], np.int64), np.array([iou], np.float32), np.array([low], np.float32)]
        feeds.append([boxes(2, 53), scores, *limits])
    results = line.check(*feeds)
    assert results[0]["runtime_count"] == 0
    assert results[2]["plain_count"] == 0
    assert results[3]["runtime_count"] > 100


def test_a_declared_maximum_keeps_the_first_rows_and_tells_of_all() -> None:
    graph = "g (float[4,10] x) => (int64[2,n] y, float[m] z) { y = NonZero(x)  z = Compress(x, c) }"
    value = numpy_helper.from_array(np.ones(40, bool), "c")
    graph = graph.replace("{", f"<bool[40] c = {{{', '.join(['1'] * value.dims[0])}}}> {{", 1)
    line = Line(graph, most={"y": 7, "Compress_1": 3})
    assert [info.shape for info in line.model.outputs] == [(2, 7), (3,), (), ()]
    x = np.where(rng().random((4, 10)) < 0.5, 1, 0).astype(np.float32)
    x[0, 0] = 1
    result = line.check([x])[0]
    assert (result["y_count"], result["z_count"]) == (np.count_nonzero(x), 40)
