"""The networks of ``benchmarks.others``: each loads, has one result, and odd extents are among them."""

from __future__ import annotations

import onnx
import onnxruntime

from benchmarks.others import OTHERS


def test_every_network_runs_in_the_peer() -> None:
    for other in OTHERS:
        model = other.model()
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        assert [output.name for output in session.get_outputs()] == ["y"], other.name
        assert all(isinstance(extent, int) for extent in session.get_outputs()[0].shape), other.name


def test_names_are_names_of_packages_and_unlike() -> None:
    names = [other.name for other in OTHERS]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() for name in names)


def test_extents_that_fill_no_vectors_are_among_them() -> None:
    assert sum(other.shape[-1] % 4 != 0 for other in OTHERS) >= len(OTHERS) // 2
