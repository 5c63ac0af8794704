"""NVRTC is found, compiles without a GPU, and says what it does not like."""

from __future__ import annotations

import locale
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploycc import nvrtc
from deploycc.types import DeployccError

TWICE = """
extern "C" __global__ void __launch_bounds__(64) twice(float *y, const float *x) {
    __shared__ float row[64];
    row[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = row[63 - threadIdx.x] * 2.0f;
}
"""


@pytest.mark.parametrize("arch", ["sm_75", "sm_87", "sm_90"])
def test_machine_code_and_ptx_for_a_chip(arch: str) -> None:
    made = nvrtc.find_compiler().compile(TWICE, arch)
    assert made.cubin[:4] == b"\x7fELF"
    machine, flags = struct.unpack_from("<H", made.cubin, 18)[0], struct.unpack_from("<I", made.cubin, 48)[0]
    assert machine == 190  # EM_CUDA
    assert flags & 0xFF == int(arch[3:])
    assert made.ptx.endswith(b"\0")
    assert f".target {arch}".encode() in made.ptx
    (fact,) = made.facts
    assert (fact.function, fact.shared_bytes, fact.local_bytes) == ("twice", 256, 0)
    assert 0 < fact.registers <= 32


def test_registers_that_do_not_fit_are_told() -> None:
    many = "\n".join(f"float a{i} = x[i + {i}];" for i in range(96))
    used = " + ".join(f"a{i} * a{(i * 7) % 96}" for i in range(96))
    source = f'extern "C" __global__ void k(float *y, const float *x) {{ int i = threadIdx.x; {many} '
    source += f"__syncthreads(); y[i] = {used}; }}"
    (fact,) = nvrtc.find_compiler().compile(source, "sm_75", ["--maxrregcount=32"]).facts
    assert fact.local_bytes > 0


def test_a_program_that_is_wrong_is_refused_with_the_log() -> None:
    wrong = 'extern "C" __global__ void k(float *y) { *y = what; }'
    with pytest.raises(nvrtc.CompileError, match="undefined"):
        nvrtc.find_compiler().compile(wrong, "sm_75")


def test_the_locale_stays_what_it_was() -> None:
    """NVRTC gives the thread that calls it another one, in which Python takes all files for ASCII."""
    before = locale.getencoding()
    nvrtc.find_compiler().compile(TWICE, "sm_75")
    assert locale.getencoding() == before


def test_a_compiler_that_dies_is_told() -> None:
    gone = replace(nvrtc.find_compiler(), library=Path("/nonexistent/libnvrtc.so"))
    with pytest.raises(nvrtc.CompileError, match="nonexistent"):
        gone.compile(TWICE, "sm_75")


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def places() -> Iterator[tuple[Path, tuple[Path, ...]]]:
        yield Path("/nonexistent"), ()

    monkeypatch.setattr(nvrtc, "_places", places)
    nvrtc._find.cache_clear()
    yield
    nvrtc._find.cache_clear()


def test_without_a_compiler_the_extra_is_named(nowhere: None) -> None:
    with pytest.raises(DeployccError) as raised:
        nvrtc.find_compiler()
    (finding,) = raised.value.diagnostics
    assert finding.code == "DC524"
    assert "pip install 'deploycc[cuda]'" in finding.help


def test_a_library_without_headers_does_not_count(
    tmp_path: Path, nowhere: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = nvrtc.importlib.util.find_spec("nvidia")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    (base, *_) = spec.submodule_search_locations
    found = [(Path(base) / "cuda_nvrtc" / "lib", (tmp_path,))]
    monkeypatch.setattr(nvrtc, "_places", lambda: iter(found))
    assert nvrtc._find() is None
