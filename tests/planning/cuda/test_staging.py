"""What the processor computes of a network on a GPU gets operands from there and gives results back."""

from __future__ import annotations

from deploycc.planning.cuda.staging import with_transfers
from deploycc.types import Buffer, Call, Launch

LAUNCH = (Launch("k", (1, 1, 1), (1, 1, 1), 0, (0, 1)),)


def arena(offset: int, nbytes: int = 64) -> Buffer:
    return Buffer("arena", 0, offset, nbytes)


def moves(calls: tuple[Call, ...]) -> list[tuple[str, str, int, str, int]]:
    """The copies: symbol, destination's kind and offset, source's kind and offset."""
    return [
        (c.symbol, c.arguments[0].kind, c.arguments[0].offset, c.arguments[1].kind, c.arguments[1].offset)
        for c in calls
        if c.copies
    ]


def test_nothing_is_staged_for_launches_and_copies() -> None:
    calls = (
        Call("k", (arena(0), arena(64)), launches=LAUNCH),
        Call("memcpy", (arena(128), arena(64))),
    )
    assert with_transfers(calls, 192) == (calls, 0)


def test_a_host_call_stands_between_copies() -> None:
    weights = Buffer("constant", 0, 256, 16)
    staged, host_bytes = with_transfers((Call("sort", (arena(0), weights, arena(64))),), 128)
    assert moves(staged) == [("to_host", "host", 0, "arena", 0), ("to_device", "arena", 64, "host", 64)]
    (called,) = [call for call in staged if not call.copies]
    assert [(b.kind, b.offset) for b in called.arguments] == [("host", 0), ("constant", 256), ("host", 64)]
    assert host_bytes == 128


def test_inputs_and_outputs_lie_behind_the_arenas_places() -> None:
    call = Call("sort", (Buffer("input", 1, 0, 40), Buffer("output", 0, 0, 70)))
    staged, host_bytes = with_transfers((call,), 100)
    assert moves(staged) == [("to_host", "host", 128, "input", 0), ("to_device", "output", 0, "host", 192)]
    assert host_bytes == 192 + 128


def test_what_is_there_already_is_not_copied_again() -> None:
    first, second = Call("a", (arena(0), arena(64))), Call("b", (arena(0), arena(64), arena(128)))
    staged, _ = with_transfers((first, second), 192)
    assert [call.symbol for call in staged] == ["to_host", "a", "to_device", "b", "to_device"]


def test_it_is_copied_again_once_a_launch_may_have_changed_it() -> None:
    host, launched = Call("a", (arena(0), arena(64))), Call("k", (arena(64), arena(0)), launches=LAUNCH)
    staged, _ = with_transfers((host, launched, host), 128)
    assert [call.symbol for call in staged].count("to_host") == 2


def test_a_result_over_an_operand_makes_the_operand_old() -> None:
    first = Call("a", (arena(0), arena(32)))
    second = Call("b", (arena(0), arena(128)))
    staged, _ = with_transfers((first, second), 192)
    assert [call.symbol for call in staged].count("to_host") == 2
