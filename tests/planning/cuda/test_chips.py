"""One network for several chips: a plan each, with the same weights and host kernels."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest

from deploycc.layout import choose_layouts
from deploycc.lowering import lower
from deploycc.planning import plan_chips
from deploycc.scheduling import choose, estimator
from deploycc.types import Plan, Program, Target
from tests.planning.cuda.chips import SM_75, SM_87, SM_90, target_of
from tests.scheduling.graphs import SCHEDULES, Case, Graph, build

TARGET = target_of(SM_75, SM_87, SM_90)


def graph(graph: Graph) -> str:
    """A convolution, a routine of the processor (the k largest), and something behind it."""
    x = graph.conv(graph.input(1, 3, 9, 7), 3, 5, (3, 3), pads=[1, 1, 1, 1])
    values, _ = graph.add("TopK", graph.add("Relu", x), graph.constant([4]), results=2, axis=-1)
    return graph.add("Tanh", values)


def addresses_can_be_fixed() -> bool:
    """Whether ``personality`` is allowed to switch off random addresses; asked in a process of its own."""
    ask = "import ctypes, sys; sys.exit(ctypes.CDLL(None).personality(0x0040000) == -1)"
    return subprocess.run([sys.executable, "-c", ask], check=False).returncode == 0


def chosen(case: Any, target: Target) -> list[Program]:
    built = build([Case("graph", case)])
    lowered = lower(built.model, target)
    made = []
    for gpu in target.gpus:
        chip = target.for_gpu(gpu)
        laid_out = choose_layouts(lowered, chip, estimator(chip, (SCHEDULES,)))
        made.append(choose(laid_out, chip, (SCHEDULES,)))
    return made


@pytest.fixture(scope="module")
def plans() -> tuple[Plan, ...]:
    return plan_chips(chosen(graph, TARGET), TARGET, prefix="net")


def test_each_chip_has_its_images(plans: tuple[Plan, ...]) -> None:
    assert [one.gpu for one in plans] == [SM_75, SM_87, SM_90]
    for one in plans:
        assert one.gpu is not None
        assert [(image.kind, image.arch) for image in one.images] == [
            ("cubin", one.gpu.arch),
            ("ptx", one.gpu.arch),
        ]


def test_every_launch_is_of_a_kernel_in_every_image(plans: tuple[Plan, ...]) -> None:
    for one in plans:
        launched = {launch.function for call in one.calls for launch in call.launches}
        cubin, ptx = (image.code for image in one.images)
        entries = set(re.findall(rb"\.entry ([A-Za-z0-9_]+)", ptx))
        assert launched
        assert {name.encode() for name in launched} == entries
        assert all(f".text.{name}".encode() in cubin for name in launched)
        assert {fact.function for fact in one.kernel_facts} == launched


def test_names_tell_chips_apart(plans: tuple[Plan, ...]) -> None:
    names = [launch.function for one in plans for call in one.calls for launch in call.launches]
    assert len(set(names)) == len(names)


def test_weights_and_host_kernels_are_shared(plans: tuple[Plan, ...]) -> None:
    assert all(one.weights is plans[0].weights for one in plans)
    assert all(one.kernels is plans[0].kernels for one in plans)
    assert {file for one in plans for file in one.routines} == set(plans[0].routines) != set()


def test_the_routine_runs_on_the_processor_between_copies(plans: tuple[Plan, ...]) -> None:
    for one in plans:
        kinds = ["launch" if call.launches else call.symbol if call.copies else "host" for call in one.calls]
        assert "host" in kinds
        assert kinds[kinds.index("host") - 1] == "to_host"
        assert kinds[kinds.index("host") + 1] == "to_device"
        host = one.calls[kinds.index("host")]
        assert {buffer.kind for buffer in host.arguments} == {"host"}
        assert all(buffer.offset + buffer.nbytes <= one.host_bytes for buffer in host.arguments)


def test_arguments_fit_the_kernels_parameters(plans: tuple[Plan, ...]) -> None:
    for one in plans:
        text = one.images[1].code.decode()
        for call in one.calls:
            for launch in call.launches:
                head = text[text.index(f".entry {launch.function}(") :]
                assert head[: head.index(")")].count(".param .u64") == len(launch.arguments)
                assert all(0 <= number < len(call.arguments) for number in launch.arguments)
                assert launch.block[0] * launch.block[1] * launch.block[2] <= 1024


def test_the_same_network_gives_the_same_bytes() -> None:
    if not addresses_can_be_fixed():
        pytest.skip("this system does not let a process fix its addresses")
    programs = chosen(graph, TARGET)
    one, two = (plan_chips(programs, TARGET, prefix="net") for _ in range(2))
    assert one == two


def test_kernels_as_text_are_cuda_c_and_ptx() -> None:
    target = target_of(SM_75)
    (made,) = plan_chips(chosen(graph, target), target, prefix="net", listings=True)
    numbers = [listing.name.split("-")[0] for listing in made.listings]
    assert len(set(numbers)) == len(numbers)
    device = [listing for listing in made.listings if listing.device]
    assert device
    assert len(device) < len(made.listings)
    for listing in device:
        assert "__global__" in listing.ir
        assert ".visible .entry" in listing.assembly
        assert {".cu", ".ptx"} <= {"." + name.rsplit(".", 1)[1] for name in listing.files()}
