"""GPU kernels get operands that are aligned for whole vectors."""

from __future__ import annotations

from deploycc.planning.cuda.aligning import with_aligned_views, with_scratch
from deploycc.planning.joins import whole
from deploycc.planning.network import COPY, Network, Step, Storage, View

A, B = Storage("temporary", 0, 128, 4), Storage("temporary", 1, 128, 4)


def network(*steps: Step) -> Network:
    return Network(steps, (), (), (whole(B),))


def test_aligned_views_stay() -> None:
    given = network(Step("f", (View(A, 64, 16),), (View(B, 112, 16),)))
    assert with_aligned_views(given) == given


def test_an_operand_at_an_odd_place_is_copied_first() -> None:
    (copy, step) = with_aligned_views(network(Step("f", (View(A, 20, 16),), (whole(B),)))).steps
    assert (copy.function, copy.reads) == (COPY, (View(A, 20, 16),))
    assert step.reads == copy.writes
    assert step.reads[0].offset == 0
    assert step.reads[0].storage not in (A, B)


def test_a_result_at_an_odd_place_is_copied_behind() -> None:
    (step, copy) = with_aligned_views(network(Step("f", (whole(A),), (View(B, 4, 8),)))).steps
    assert (copy.function, copy.reads, copy.writes) == (COPY, step.writes, (View(B, 4, 8),))


def test_copies_may_begin_anywhere() -> None:
    given = network(Step(COPY, (View(A, 4, 8),), (View(B, 20, 8),)))
    assert with_aligned_views(given) == given


def test_scratch_comes_behind_the_results() -> None:
    (step, other) = with_scratch(
        network(Step("f", (whole(A),), (whole(B),)), Step("g", (whole(B),), (whole(A),))), {"f": (256, 12)}
    ).steps
    assert [view.nbytes for view in step.writes] == [128, 256, 12]
    assert len({view.storage for view in step.writes} | {A}) == 4
    assert len(other.writes) == 1
