"""GPU chips: their files, the names of targets that have them, and what is refused."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from deploycc.diagnostics import render
from deploycc.gpu_targets import (
    ARCHITECTURES,
    CHIP_NUMBERS,
    GPU_KEYS,
    gpu_names,
    load_gpu,
    memory_of,
    peak_of,
    with_precision,
)
from deploycc.request import target_from_json, target_to_json
from deploycc.resources import data_dir
from deploycc.targets import load_target, target_names
from deploycc.types import DeployccError, Gpu, Peak, Target

FOLDER = data_dir("targets") / "gpus"


def table_of(name: str) -> dict[str, object]:
    return tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


def refusal(name: str | Path) -> str:
    with pytest.raises(DeployccError) as raised:
        load_target(name)
    return "\n".join(map(render, raised.value.diagnostics))


def chip_file(folder: Path, *changes: tuple[str, str], name: str = "chip.toml") -> Path:
    """A copy of a chip's file with texts replaced."""
    text = (FOLDER / "t4.toml").read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize("name", gpu_names())
def test_a_file_is_named_as_its_chip_and_has_a_source_for_every_number(name: str) -> None:
    gpu = load_gpu(name)
    assert gpu.name == name
    table = table_of(name)
    given = {
        f"{section}.{key}"
        for section, rows in table.items()
        if isinstance(rows, dict) and section != "sources"
        for key in rows
    }
    assert given <= set(CHIP_NUMBERS)
    assert given == set(gpu.sources)
    assert all(len(source) > 20 for source in gpu.sources.values())


def test_one_chip_stands_for_each_architecture() -> None:
    standing = [table_of(name)["arch"] for name in gpu_names() if table_of(name).get("stands_for_arch")]
    assert sorted(map(str, standing)) == sorted(ARCHITECTURES)
    assert {load_gpu(arch).arch for arch in ARCHITECTURES} == set(ARCHITECTURES)


# FP32 cores of an SM, and multiply-adds of FP16 that its tensor cores begin in a cycle with sums of fp32: the
# whitepapers of Turing, Ampere GA100 and GA102 and Hopper; GeForce has half of what its chips can do.
CORES = {"sm_75": 64, "sm_80": 64, "sm_86": 128, "sm_87": 128, "sm_89": 128, "sm_90": 128}
FP16 = {"sm_75": 512, "sm_80": 1024, "sm_86": 512, "sm_87": 1024, "sm_89": 512, "sm_90": 2048}
GEFORCE = {"rtx3080": 0.5, "rtx4090": 0.5}


@pytest.mark.parametrize("name", gpu_names())
def test_rates_are_dense_and_follow_from_the_chip(name: str) -> None:
    gpu = load_gpu(name)
    clocks = {"fp32": 1.98e9} if gpu.arch == "sm_90" else {}
    fp32 = gpu.processors * CORES[gpu.arch] * 2 * clocks.get("fp32", gpu.clock_hz)
    assert gpu.flops["fp32"] == pytest.approx(fp32, rel=0.01)
    # What a data sheet promises of a card can be less than its clock would give, never more.
    fp16 = gpu.processors * FP16[gpu.arch] * 2 * gpu.clock_hz * GEFORCE.get(name, 1.0)
    assert gpu.flops["fp16"] == pytest.approx(
        fp16 if gpu.arch != "sm_89" or name != "l4" else 121e12, rel=0.01
    )
    assert fp16 >= gpu.flops["fp16"] * 0.99
    assert set(gpu.flops) == {"fp32", "fp16"} | ({"tf32", "bf16"} if gpu.capability >= (8, 0) else set())
    if gpu.capability >= (8, 0):
        assert gpu.flops["bf16"] == gpu.flops["fp16"]
        assert gpu.flops["tf32"] == pytest.approx(gpu.flops["fp16"] / 2, rel=0.01)


@pytest.mark.parametrize("name", gpu_names())
def test_limits_are_those_of_the_compute_capability(name: str) -> None:
    gpu = load_gpu(name)
    threads, shared = {
        "sm_75": (1024, 64),
        "sm_80": (2048, 164),
        "sm_86": (1536, 100),
        "sm_87": (1536, 164),
        "sm_89": (1536, 100),
        "sm_90": (2048, 228),
    }[gpu.arch]
    assert (gpu.threads_per_processor, gpu.registers_per_processor) == (threads, 1 << 16)
    assert gpu.shared_bytes_per_processor == shared << 10
    # From 8.0 on the driver keeps 1 KiB for each block.
    assert gpu.shared_bytes_per_block == (shared - (gpu.arch != "sm_75")) << 10


@pytest.mark.parametrize(
    ("text", "name", "chips", "machine"),
    [
        ("cuda", "cuda", ["t4", "a100", "a10", "h100"], "EM_X86_64"),
        ("cuda:sm_75", "cuda-sm_75", ["t4"], "EM_X86_64"),
        ("cuda:sm_90,sm_75,orin", "cuda-sm_75-orin-sm_90", ["t4", "orin", "h100"], "EM_X86_64"),
        ("cuda:h200", "cuda-h200", ["h200"], "EM_X86_64"),
        ("cuda:orin@arm64", "cuda-orin-arm64", ["orin"], "EM_AARCH64"),
        ("cuda@arm64", "cuda-arm64", ["t4", "a100", "a10", "h100"], "EM_AARCH64"),
        ("cuda:orin-nano@jetson-orin", "cuda-orin-nano-jetson-orin", ["orin-nano"], "EM_AARCH64"),
        ("h200", "h200", ["h200"], "EM_X86_64"),
        ("jetson-orin", "jetson-orin", ["orin"], "EM_AARCH64"),
    ],
)
def test_names(text: str, name: str, chips: list[str], machine: str) -> None:
    target = load_target(text)
    assert (target.name, [gpu.name for gpu in target.gpus]) == (name, chips)
    assert target.linker.elf_machine == machine
    assert set(target.hints) == {"tensorrt", "onnxruntime-cuda"}
    assert target_from_json(json.loads(json.dumps(target_to_json(target)))) == target


@pytest.mark.parametrize(
    "text",
    [
        *("cuda", "cuda:sm_75", "cuda:sm_90,sm_75,orin", "cuda:orin-nano@jetson-orin", "cuda@arm64"),
        *("cuda:orin@arm64", "cuda:h200@x86-64-v4", "h200", "jetson-orin"),
    ],
)
def test_a_targets_own_name_is_taken_again(text: str) -> None:
    target = load_target(text)
    assert load_target(target.name) == target


@pytest.mark.parametrize("name", ["cuda-", "cuda-sm_76", "cuda-arm64-t4", "cuda-t4-arm65"])
def test_what_no_target_is_called(name: str) -> None:
    assert f"error[DC500]: there is no target '{name}'" in refusal(name)


def test_the_default_processor_may_be_named() -> None:
    assert load_target("cuda@x86-64") == load_target("cuda")
    assert load_target("cuda:sm_75@x86-64") == load_target("cuda:sm_75")


def test_the_order_of_chips_does_not_matter() -> None:
    assert load_target("cuda:sm_90,sm_75") == load_target("cuda:sm_75,sm_90")


def test_only_cuda_targets_have_chips() -> None:
    assert [name for name in target_names() if load_target(name).gpus] == ["cuda", "h200", "jetson-orin"]


def test_a_users_file_names_chips_and_files_beside_it(tmp_path: Path) -> None:
    chip_file(tmp_path, ('"t4"', '"mine"'), ("count = 40", "count = 20"))
    (tmp_path / "board.toml").write_text(
        'extends = "arm64"\nname = "board"\ngpus = ["h200", "./chip.toml"]\n', encoding="utf-8"
    )
    target = load_target(tmp_path / "board.toml")
    assert [(gpu.name, gpu.processors) for gpu in target.gpus] == [("mine", 20), ("h200", 132)]
    (tmp_path / "child.toml").write_text('extends = "./board.toml"\nname = "child"\n', encoding="utf-8")
    assert load_target(tmp_path / "child.toml").gpus == target.gpus
    (tmp_path / "plain.toml").write_text(
        'extends = "./board.toml"\nname = "plain"\ngpus = []\n', encoding="utf-8"
    )
    assert load_target(tmp_path / "plain.toml").gpus == ()


def test_a_chip_by_its_path_on_the_command_line(tmp_path: Path) -> None:
    target = load_target(f"cuda:{chip_file(tmp_path, ('count = 40', 'count = 13'))},sm_90")
    assert (target.name, target.gpus[0].processors) == ("cuda-chip-sm_90", 13)


@pytest.mark.parametrize(
    ("text", "code", "messages"),
    [
        (
            "cuda:h2000",
            "DC513",
            ["there is no GPU chip 'h2000'", "did you mean 'h200'?", "one of sm_75, sm_80"],
        ),
        ("cuda:sm75", "DC513", ["did you mean 'sm_75'?"]),
        ("cuda:sm_70", "DC513", ["kernels need sm_75 or newer"]),
        ("cuda:sm_120", "DC513", ["every package runs there too, by the PTX in it: --target cuda:sm_90"]),
        ("cuda:", "DC513", ["there is no GPU chip ''"]),
        ("cuda:zzzzzz", "DC513", ["'deploycc targets' lists them"]),
        ("cuda:tensorrt", "DC513", ["deploycc lint --target tensorrt"]),
        ("cuda:onnxruntime", "DC513", ["deploycc lint --target onnxruntime-cuda"]),
        ("cuda:t4,t4", "DC514", ["'t4' is named twice", "got:  t4, t4"]),
        ("cuda:sm_90,h200", "DC514", ["'sm_90' and 'h200' are of one architecture", "leave one of them out"]),
        ("cuda@armv7", "DC515", ["'cuda-armv7' cannot have a GPU", "got:  a processor of EM_ARM"]),
        ("cuda@arm64-musl", "DC515", ["got:  the C library musl"]),
        ("cuda@android-arm64", "DC515", ["got:  the C library bionic and no linker"]),
        ("cuda@arm65", "DC500", ["there is no target 'arm65'"]),
        ("cuda@", "DC500", ["no processor is named in 'cuda@'"]),
    ],
)
def test_refusals(text: str, code: str, messages: list[str]) -> None:
    told = refusal(text)
    assert f"error[{code}]" in told
    assert all(message in told for message in messages), told


def test_all_unknown_chips_at_once() -> None:
    assert refusal("cuda:h2000,sm_75,a101").count("error[DC513]") == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("clock_mhz", "clock_mzh", "did you mean 'processors.clock_mhz'?"),
        ('"sm_75"', '"sm_70"', "need: one of sm_75, sm_80"),
        ("count = 40", 'count = "40"', "'processors.count' has the wrong type"),
        ("l2_kib = 4096\n", "", "the chip has no 'cache.l2_kib'"),
        ("gbytes = 16.0", "gbytes = -1.0", "bad value of 'memory.gbytes'"),
        ('"memory.gbytes" =', '"memory.gbyte" =', "unknown key 'memory.gbyte' in [sources]"),
    ],
)
def test_a_wrong_chip_file_is_told_like_a_target_file(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    assert message in refusal(f"cuda:{chip_file(tmp_path, (old, new))}")


def precision_refusal(target: Target, precision: str) -> str:
    with pytest.raises(DeployccError) as raised:
        with_precision(target, precision)
    return "\n".join(map(render, raised.value.diagnostics))


def test_precision() -> None:
    target = load_target("cuda:sm_75,sm_90")
    assert with_precision(target, "fp16").precision == "fp16"
    assert with_precision(target, "fp32") == target
    cpu = load_target("arm64")
    assert with_precision(cpu, "fp32") == cpu
    told = precision_refusal(cpu, "fp16")
    assert "error[DC516]" in told
    assert "'arm64' computes in the types of the model" in told
    assert "did you mean --precision fp16?" in precision_refusal(target, "f16")


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_a_precision_that_tensor_cores_have_not(precision: str) -> None:
    told = precision_refusal(load_target("cuda:sm_75,sm_86,sm_90"), precision)
    assert "error[DC517]" in told
    assert f"NVIDIA T4 (Turing, TU104) do not multiply {precision}" in told
    assert "--target cuda:sm_86,sm_90" in told
    assert with_precision(load_target("cuda:sm_86,sm_90"), precision).precision == precision


def test_peak_and_memory_are_those_of_the_weakest_chip() -> None:
    target = load_target("cuda:t4,h200")
    assert peak_of(target) == Peak(8.1e12, 320e9)
    assert peak_of(with_precision(target, "fp16")) == Peak(65e12, 320e9)
    assert memory_of(target) == 16 * 10**9
    cpu = load_target("rpi5")
    assert (peak_of(cpu), memory_of(cpu)) == (cpu.peak, cpu.memory_bytes)


def test_every_key_is_documented() -> None:
    text = (Path(__file__).parents[1] / "docs" / "new-target.md").read_text(encoding="utf-8")
    assert [key for key in GPU_KEYS if f"`{key}`" not in text] == []


def test_capabilities() -> None:
    gpus: list[Gpu] = [load_gpu(arch) for arch in ARCHITECTURES]
    assert [gpu.capability for gpu in gpus] == [(7, 5), (8, 0), (8, 6), (8, 7), (8, 9), (9, 0)]
    assert [gpu.arch for gpu in gpus if gpu.has_tensor_cores("bf16")] == list(ARCHITECTURES[1:])
