"""The smallest arena computes the same to the bit: random networks on a byte map, and real kernels."""

from __future__ import annotations

import hashlib
import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deploycc.planning.planner
from deploycc.memory_use import handle_bytes
from deploycc.planning import plan
from deploycc.planning.arena import place
from deploycc.planning.joins import whole
from deploycc.planning.memory import bytes_per_call
from deploycc.planning.network import Network, Step, Storage, View
from deploycc.planning.ordering import reorder
from deploycc.planning.sharing import Sharing
from deploycc.planning.smallest import MOST_EXTRA, arena_blocks, arrange_smallest, direct_outputs
from deploycc.types import DeployccError
from tests.planning.graphs import GRAPHS, lower_plainly, random_inputs
from tests.planning.harness import X86_64, run_plan


def random_network(seed: int, count: int) -> Network:
    """Steps that read up to three earlier results, some joined from parts, some elementwise, some outputs."""
    generator = np.random.default_rng(seed)
    source = Storage("input", 0, 128)
    values = [View(source, 0, 128)]
    steps: list[Step] = []

    def step(name: str, reads: list[View], *writes: View) -> None:
        steps.append(Step(name, tuple(reads), writes, f"v{len(steps)}"))

    for number in range(count):
        picked = [values[int(i)] for i in generator.integers(max(0, len(values) - 6), len(values), 3)]
        reads = picked[: int(generator.integers(1, 4))]
        kind = generator.choice(["plain", "over", "join", "two"])
        size = reads[0].nbytes if kind == "over" else int(generator.integers(1, 6)) * 64
        storage = Storage("temporary", 2 * number, size * (2 if kind == "join" else 1), 4)
        if kind == "join":
            step(f"plain{number}", reads, View(storage, 0, size))
            # The second part may read the first one.
            step(f"plain{number}b", [*reads[:1], View(storage, 0, size)], View(storage, size, size))
        elif kind == "two":
            other = Storage("temporary", 2 * number + 1, 64, 4)
            step(f"plain{number}", reads, whole(storage), whole(other))
            values.append(whole(other))
        else:
            step(f"{kind}{number}", reads, whole(storage))
        values.append(whole(storage))
    shown = generator.choice(len(values), min(3, len(values)), replace=False)
    return Network(tuple(steps), (source,), (), tuple(values[int(i)] for i in shown))


def prove(function: str, operand: int, result: int, width: int) -> Sharing | None:
    """Steps called ``over`` may write over their first operand, some of them at a distance only."""
    if not function.startswith("over") or operand:
        return None
    return Sharing(64 * (int(function[4:]) % 2), serial=False)


def cycles(step: Step) -> float:
    return float(sum(view.nbytes for view in (*step.reads, *step.writes)))


def outcome(network: Network, source: bytes, *, planned: bool) -> list[bytes]:
    """The outputs: each result is a hash of the step's variable and all bytes read.

    ``planned``: in an arena and output buffers full of garbage, else every storage has its own memory.
    """
    garbage = np.random.default_rng(1)
    memory: dict[Storage, np.ndarray] = {}
    buffers: dict[tuple[str, int], np.ndarray] = {}
    if planned:
        places, layout = place(network)
        buffers["arena", 0] = garbage.integers(0, 256, layout.arena_bytes, np.uint8)
        for index, view in enumerate(network.outputs):
            buffers["output", index] = garbage.integers(0, 256, view.nbytes, np.uint8)
        for storage, at in places.items():
            held = buffers[at.kind, at.index]
            assert at.offset + storage.nbytes <= len(held), "leaves its buffer"
            memory[storage] = held[at.offset :][: storage.nbytes]
    memory[network.inputs[0]] = np.frombuffer(source, np.uint8)
    for step in network.steps:
        read = [memory[v.storage][v.offset :][: v.nbytes].tobytes() for v in step.reads]
        for index, view in enumerate(step.writes):
            if view.storage not in memory:
                memory[view.storage] = garbage.integers(0, 256, view.storage.nbytes, np.uint8)
            seed = hashlib.sha256(b"".join([step.variable.encode(), bytes([index]), *read])).digest()
            made = np.frombuffer(seed * (view.nbytes // 32), np.uint8)
            memory[view.storage][view.offset :][: view.nbytes] = made
    return [memory[v.storage][v.offset :][: v.nbytes].tobytes() for v in network.outputs]


def peak(network: Network) -> int:
    return max(bytes_per_call(list(arena_blocks(network).values())).values(), default=0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 14))
def test_random_networks_compute_the_same_in_less(seed: int, count: int) -> None:
    network = random_network(seed, count)
    source = np.random.default_rng(seed).bytes(128)
    found = arrange_smallest(network, prove, cycles)
    expected = outcome(network, source, planned=False)
    assert outcome(network, source, planned=True) == expected
    assert outcome(found.network, source, planned=True) == expected
    assert peak(found.network) <= peak(network)
    assert len(found.network.steps) == len(network.steps) + len(found.recomputed)
    assert 0 <= found.extra <= MOST_EXTRA


def test_every_way_to_save_is_taken_somewhere() -> None:
    found = [arrange_smallest(random_network(seed, 12), prove, cycles) for seed in range(40)]
    assert any(arrangement.shared for arrangement in found)
    assert any(arrangement.recomputed for arrangement in found)
    networks = [random_network(seed, 12) for seed in range(40)]
    assert any(reorder(network, direct_outputs(network)) is not network for network in networks)
    saved = [1 - peak(a.network) / peak(n) for a, n in zip(found, networks, strict=True) if peak(n)]
    assert np.mean(saved) > 0.1


def orders(network: Network) -> list[tuple[Step, ...]]:
    """All orders in which no step reads what is not there yet."""
    made = [{(v.storage, v.offset) for v in step.writes} for step in network.steps]
    every = set().union(*made)

    def valid(order: tuple[int, ...]) -> bool:
        done: set[tuple[Storage, int]] = set()
        for index in order:
            for view in network.steps[index].reads:
                inside = {(s, o) for s, o in every if s == view.storage and o < view.offset + view.nbytes}
                if not inside <= done:
                    return False
            done |= made[index]
        return True

    count = len(network.steps)
    found = [order for order in itertools.permutations(range(count)) if valid(order)]
    return [tuple(network.steps[i] for i in order) for order in found]


@pytest.mark.parametrize("seed", range(12))
def test_the_order_is_the_best_of_all_for_a_handful_of_steps(seed: int) -> None:
    network = random_network(seed, 4)
    if len(network.steps) > 7:
        network = random_network(seed, 3)
    best = min(
        peak(Network(order, network.inputs, network.constants, network.outputs)) for order in orders(network)
    )
    assert peak(reorder(network, direct_outputs(network))) == best


@pytest.mark.parametrize("name", ["residual", "concat", "pooling", "aliased_outputs", "layernorm_erf"])
def test_kernels_give_the_same_bits(name: str) -> None:
    proto = GRAPHS[name]()
    inputs = random_inputs(proto, seed=int(np.random.default_rng().integers(1 << 30)))
    program = lower_plainly(proto)
    fast, smallest = plan(program, X86_64), plan(program, X86_64, arena="smallest")
    assert smallest.arena_bytes <= fast.arena_bytes
    assert smallest.memory.arena == "smallest"
    assert smallest.memory.fast_bytes == fast.arena_bytes
    for one, other in zip(run_plan(fast, inputs), run_plan(smallest, inputs), strict=True):
        assert one.tobytes() == other.tobytes()


def test_the_limit_is_met_or_told_before_anything_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    program = lower_plainly(GRAPHS["residual"]())
    fits = plan(program, X86_64)
    takes = handle_bytes(fits.arena_bytes, fits.workspace_bytes, fits.thread_workspace_bytes, X86_64.cores)
    assert plan(program, X86_64, max_memory=takes).calls == fits.calls

    def compiled(*arguments: object) -> None:
        raise AssertionError("kernels were compiled")

    monkeypatch.setattr(deploycc.planning.planner, "compile_kernels", compiled)
    with pytest.raises(DeployccError) as raised:
        plan(program, X86_64, max_memory=takes - 1)
    (finding,) = raised.value.diagnostics
    assert finding.code == "DC870"
    assert re.search(r"a handle takes [\d.]+ (KiB|bytes)", finding.message)
    assert "the peak is" in finding.got
    assert "the result of" in finding.got
    assert "for each of 2 threads" in finding.got
    assert "--arena smallest takes the arena to" in finding.help
    assert finding.op
