"""Memory on the command line: sizes, the limit, what inspect shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from deploycc.cli.memory_table import memory_lines, size
from deploycc.cli.program import program
from deploycc.cli.values import BytesOption
from tests.models import write_small_net


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("65536", 65536),
        ("64KiB", 65536),
        ("64 MiB", 64 << 20),
        ("1.5GiB", 3 << 29),
        ("1GB", 10**9),
        ("2kB", 2000),
        ("7bytes", 7),
        ("3mb", 3_000_000),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert BytesOption().convert(text, None, None) == count


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "64 parsecs", "1e6", "KiB", "1.2.3MB", "\u0663MiB", "0.1bytes"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write 64MiB"):
        BytesOption().convert(text, None, None)


def test_a_limit_that_is_no_size_is_a_usage_error(tmp_path: Path) -> None:
    model = write_small_net(tmp_path / "small.onnx")
    done = CliRunner().invoke(program, ["build", str(model), "--max-memory", "much"])
    assert done.exit_code == 2
    assert "'much' is no size above 0" in done.output


def test_a_build_beyond_its_limit_fails_and_leaves_nothing(tmp_path: Path) -> None:
    model = write_small_net(tmp_path / "small.onnx")
    arguments = ["build", str(model), "--target", "arm64", "-o", str(tmp_path / "out"), "--max-memory", "16"]
    done = CliRunner().invoke(program, arguments)
    assert done.exit_code == 1 or getattr(done.exception, "diagnostics", ())
    text = done.output + str(done.exception)
    assert "DC870" in text
    assert not (tmp_path / "out").exists()


def manifest() -> dict[str, Any]:
    def place(kind: str, offset: int, nbytes: int, **more: Any) -> dict[str, Any]:
        return {"kind": kind, "offset": offset, "bytes": nbytes, **more}

    return {
        "calls": [
            {
                "reads": [place("input", 0, 4000, index=0)],
                "writes": [
                    place(
                        "arena",
                        2048,
                        2 << 20,
                        tensor="features",
                        shape=[1, 64, 64, 128],
                        layout="channels last",
                    )
                ],
                "nodes": ["conv0", "relu0"],
                "operators": ["conv2d", "relu"],
            },
            {
                "reads": [place("arena", 2048, 2 << 20)],
                "writes": [place("arena", 0, 2000)],
                "nodes": ["pool0"],
                "operators": ["mean"],
            },
            {
                "reads": [place("arena", 0, 2000)],
                "writes": [place("output", 0, 40, index=0, tensor="y", shape=[1, 10], layout="row-major")],
                "nodes": ["dense"],
                "operators": ["matmul"],
            },
        ],
        "inputs": [{"bytes": 4000}],
        "outputs": [{"bytes": 40}],
        "memory": {
            "arena": "smallest",
            "arena_bytes": 2048 + (2 << 20),
            "extra_cycles": 0.0312,
            "fast_arena_bytes": 3 << 20,
            "lower_bound_bytes": 2000 + (2 << 20),
            "steps_on_one_thread": 0,
            "steps_over_operands": 2,
            "steps_recomputed": 1,
            "thread_workspace_bytes": 4096,
            "weight_bytes": 12 << 20,
            "workspace_bytes": 0,
        },
    }


def test_inspect_shows_the_peak(golden: Callable[[str, str], None]) -> None:
    golden("memory.txt", "\n".join(memory_lines(manifest())) + "\n")


def test_a_package_without_steps_has_no_peak_to_show() -> None:
    table = manifest()
    table["calls"] = []
    table["memory"] = {**table["memory"], "arena": "fast", "arena_bytes": 0}
    assert not any("most in the arena" in line for line in memory_lines(table))


def test_sizes_for_people() -> None:
    assert [size(count) for count in (0, 1023, 1024, 1 << 20, 5 << 29)] == [
        "0 bytes",
        "1023 bytes",
        "1.0 KiB",
        "1.00 MiB",
        "2560.00 MiB",
    ]
