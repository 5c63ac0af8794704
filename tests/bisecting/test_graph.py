"""Pieces of a model: the nodes between tensors, and those nodes as a model that runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from deploycc.bisecting.graph import Graph
from deploycc.bisecting.judging import run_plain
from deploycc.onnx_graph import Array


def test_the_nodes_between_known_tensors_and_a_result(net: Path) -> None:
    graph = Graph(onnx.load(net))
    nodes, read = graph.between(["h1"], {"r0", "p1"})
    assert graph.names_of(nodes) == ("second", "swished")
    assert read == ["r0"]
    nodes, read = graph.between(["r0", "c0"], {"r0"})
    assert graph.names_of(nodes) == ("first", "rectified")
    assert read == ["x"]


def test_pieces_one_after_the_other_compute_what_the_whole_does(net: Path) -> None:
    graph = Graph(onnx.load(net))
    x = np.random.default_rng().standard_normal((1, 3, 12, 12)).astype(np.float32)
    whole = run_plain(graph.proto, [x])[0]
    value: Array = x
    known = "x"
    for target in ("r0", "h1", "p1", "y"):
        nodes, read = graph.between([target], {known})
        assert read == [known]
        value, known = run_plain(graph.piece(nodes, read, [target]), [value])[0], target
    assert np.array_equal(value, whole)


def test_a_piece_has_only_the_weights_that_it_needs(net: Path) -> None:
    graph = Graph(onnx.load(net))
    piece = graph.piece(graph.numbers_of(["dense"]), ["f1"], ["y"])
    assert [tensor.name for tensor in piece.graph.initializer] == ["b2", "w2"]
    onnx.checker.check_model(piece, full_check=True)


def test_views_have_the_elements_of_one_another(net: Path) -> None:
    graph = Graph(onnx.load(net))
    assert graph.views("f1") == {"t1", "f1"}
    assert graph.views("p1") == {"p1"}
