"""Operators that C functions compute: determinants, counts of n-grams."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deploycc.lowering.routines import FOLDER, call_routine
from deploycc.relax_graph import constant, static_shape
from deploycc.tvm_api import OnnxOpConverter, relax


class Det(OnnxOpConverter):  # type: ignore[misc]
    """The determinants of the last two axes, worked out in double precision."""

    @classmethod
    def _impl_v11(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        shape, dtype = static_shape(inputs[0]), str(inputs[0].ty.dtype)
        rank, batch = shape[-1], shape[:-2]
        kinds = [(batch, dtype), ([rank * rank], "float64")]
        numbers = [math.prod(batch), rank]
        made = call_routine(bb, FOLDER / "determinant.c", f"dcc_det_{dtype}", inputs[:1], kinds, numbers)
        return relax.TupleGetItem(bb.emit(made), 0)


class TfIdfVectorizer(OnnxOpConverter):  # type: ignore[misc]
    """How often each n-gram of the pool occurs, as it is, as 0 or 1, and weighted.

    A weight is that of an n-gram, as the standard and ONNX Runtime have it; onnx's evaluator takes it for
    that of a column.
    """

    @classmethod
    def _impl_v9(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        data = bb.normalize(relax.op.astype(inputs[0], "int64"))
        shape = static_shape(data)
        pool = [int(item) for item in attr["pool_int64s"]]
        columns = [int(column) for column in attr["ngram_indexes"]]
        least, most = int(attr["min_gram_length"]), int(attr["max_gram_length"])
        grams = _grams([int(count) for count in attr["ngram_counts"]], len(pool))
        # Of two equal n-grams the later one counts, as in ONNX Runtime's tree of them.
        last = {tuple(pool[start : start + n]): (start, n, columns[i]) for i, (start, n) in enumerate(grams)}
        kept = [gram for gram in last.values() if least <= gram[1] <= most]
        width = max(columns) + 1
        tables = [pool, [n for _, n, _ in kept], [start for start, _, _ in kept], [c for *_, c in kept]]
        rows = shape[0] if len(shape) == 2 else 1
        numbers = [rows, shape[-1], len(kept), width, int(attr["max_skip_count"])]
        counts = call_routine(
            bb,
            FOLDER / "tfidf.c",
            "dcc_tfidf",
            [data, *(constant(np.array(table, np.int64)) for table in tables)],
            [([*shape[:-1], width], "float32")],
            numbers,
        )
        return cls._weighted(bb, bb.emit(counts), attr, columns, width)

    @classmethod
    def _weighted(cls, bb: Any, counts: Any, attr: Any, columns: list[int], width: int) -> Any:
        mode = attr["mode"].decode()
        if mode == "IDF":
            one = relax.const(np.float32(1), "float32")
            counts = bb.normalize(relax.op.minimum(counts, one))
        if mode == "TF" or not attr.get("weights"):
            return counts
        weights = np.ones(width, np.float32)
        weights[columns] = np.asarray([float(weight) for weight in attr["weights"]], np.float32)
        return relax.op.multiply(counts, constant(weights))


def _grams(firsts: list[int], items: int) -> list[tuple[int, int]]:
    """Start and length of every n-gram: ``firsts[n - 1]`` is where those of length ``n`` begin."""
    found = []
    for index, first in enumerate(firsts):
        end = firsts[index + 1] if index + 1 < len(firsts) else items
        found += [(start, index + 1) for start in range(first, end, index + 1)]
    return found


CONVERTERS: dict[str, type] = {"Det": Det, "TfIdfVectorizer": TfIdfVectorizer}
