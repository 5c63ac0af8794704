"""The three networks of MTCNN on the two main targets, in every test run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.library import PackageLibrary, RunFailed, manifest_of
from benchmarks.reference import TOLERANCE, largest_error
from tests.networks.running import Reference

MTCNN = ("mtcnn_pnet", "mtcnn_rnet", "mtcnn_onet")


@pytest.mark.parametrize("name", MTCNN)
@pytest.mark.parametrize("target", ["x86-64", pytest.param("arm64", marks=pytest.mark.slow)])
def test_matches_onnx_runtime(matches: Callable[..., None], name: str, target: str) -> None:
    matches(name, target)


def test_two_threads_give_the_same_bits(
    built: Callable[..., Path], reference: Callable[[str], Reference]
) -> None:
    want = reference("mtcnn_pnet")
    results = []
    for threads in (1, 2):
        library = PackageLibrary(built("mtcnn_pnet", "x86-64"), threads)
        results.append(library.bind(want.inputs))
        library.close()
    assert largest_error(results[0], want.outputs) <= TOLERANCE
    assert all(np.array_equal(one, two) for one, two in zip(*results, strict=True))


def test_a_run_does_not_depend_on_the_run_before(
    built: Callable[..., Path], reference: Callable[[str], Reference]
) -> None:
    want = reference("mtcnn_onet")
    library = PackageLibrary(built("mtcnn_onet", "x86-64"))
    first = library.bind(want.inputs)
    library.bind([np.full_like(x, 1e30) for x in want.inputs])
    again = library.bind(want.inputs)
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    library.close()


def test_bad_thread_count_is_told(built: Callable[..., Path]) -> None:
    with pytest.raises(RunFailed, match=r"mtcnn_rnet: status 1: .*threads"):
        PackageLibrary(built("mtcnn_rnet", "x86-64"), threads=-7)


def test_manifest_is_the_networks(built: Callable[..., Path]) -> None:
    manifest = manifest_of(built("mtcnn_pnet", "arm64"))
    assert [(t["name"], t["shape"]) for t in manifest["inputs"]] == [("input", [1, 3, 120, 160])]
    assert [(t["name"], t["shape"]) for t in manifest["outputs"]] == [
        ("output1", [1, 4, 55, 75]),
        ("output2", [1, 2, 55, 75]),
    ]
