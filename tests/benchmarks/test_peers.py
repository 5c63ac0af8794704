"""The peers, options.py, dense.py, machine.py: what each engine is given, and that it computes it."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks import machine, options
from benchmarks.contest import _error
from benchmarks.convs import Conv
from benchmarks.dense import Share, channels_last, line_of
from benchmarks.peers import PEERS, EngineFailed
from benchmarks.reference import OnnxRuntime, relative_error
from deploycc.scheduling.library import load_schedules
from deploycc.timing.peers import ncnn as ncnn_peer

CONVS = [
    Conv("plain", (1, 5, 9, 7), 6, (3, 2), pads=(1, 0, 2, 1), strides=(2, 1)),
    Conv("grouped", (1, 6, 8, 9), 9, (1, 3), pads=(0, 1, 0, 1), dilations=(1, 2), group=3),
]


@pytest.mark.parametrize("conv", CONVS, ids=lambda conv: conv.name)
@pytest.mark.parametrize("name", PEERS)
def test_peers_compute_the_convolution(name: str, conv: Conv, tmp_path: Path) -> None:
    peer = PEERS[name]
    if not peer.installed:
        pytest.skip(f"{peer.title} is not installed (extra: bench)")
    file = tmp_path / "conv.onnx"
    onnx.save(conv.model(), file)
    x = np.random.default_rng(0).uniform(-1, 1, conv.input).astype(np.float32)
    engine = peer.open(file, 1)
    got = engine.bind([x])
    assert _error(got, [conv.reference(x, conv.model())]) < 1e-5
    engine.run()
    assert peer.version


@pytest.mark.parametrize("name", ["openvino", "mnn"])
def test_what_is_no_network_is_refused(name: str, tmp_path: Path) -> None:
    if not PEERS[name].installed:
        pytest.skip(f"{PEERS[name].title} is not installed (extra: bench)")
    file = tmp_path / "broken.onnx"
    file.write_bytes(b"broken")
    with pytest.raises(EngineFailed):
        PEERS[name].open(file, 1)


def test_ncnn_gets_the_convolution_as_its_own_layer(tmp_path: Path) -> None:
    conv = CONVS[1]
    model = conv.model()
    files = ncnn_peer.written(model.graph, tmp_path / "conv.onnx")
    numbers = "0=9 1=3 11=1 2=2 12=1 3=1 13=1 4=1 15=1 14=0 16=0 5=1 6=54 9=1 7=3"
    layer = f"ConvolutionDepthWise conv 1 1 x y {numbers}"
    assert files.param.read_text().splitlines() == ["7767517", "2 2", "Input x 0 1 x", layer]
    weight, bias = (onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer)
    assert files.weights.read_bytes() == bytes(4) + weight.tobytes() + bias.tobytes()


def test_schedules_can_be_left_out(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    options.add_schedule_options(parser)
    words = ["--without", "gemm", "--schedule-dir", str(tmp_path)]
    folders = options.schedule_folders(parser.parse_args(words))
    assert folders[0] == tmp_path
    (stand_in,) = load_schedules(folders)
    assert stand_in.name == "gemm"
    assert "left out" in stand_in.match(None, None).reason  # type: ignore[arg-type]


def test_peers_are_chosen_in_the_tables_order(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    options.add_measuring_options(parser, 3)
    assert options.peers_of(parser.parse_args(["--peers", "ort"]), parser) == ["ort"]
    assert options.peers_of(parser.parse_args(["--peers", ""]), parser) == []
    both = options.peers_of(parser.parse_args(["--peers", "ncnn,ort"]), parser)
    assert both == (["ort", "ncnn"] if PEERS["ncnn"].installed else ["ort"])
    assert ("left out: ncnn" in capsys.readouterr().out) != PEERS["ncnn"].installed
    with pytest.raises(SystemExit):
        options.peers_of(parser.parse_args(["--peers", "tvm"]), parser)


def test_dense_networks_are_channels_last(tmp_path: Path) -> None:
    conv = CONVS[0]
    model = channels_last(conv)
    onnx.checker.check_model(model)
    onnx.save(model, tmp_path / "last.onnx")
    x = np.random.default_rng(0).uniform(-1, 1, conv.input).astype(np.float32)
    (got,) = OnnxRuntime(tmp_path / "last.onnx").bind([np.ascontiguousarray(x.transpose(0, 2, 3, 1))])
    assert relative_error(got.transpose(0, 3, 1, 2), conv.reference(x, conv.model())) < 1e-6


def test_a_share_is_of_the_measured_peak() -> None:
    right = Share("common_r50_3x3_14", "host", 2.0, 1.0, 1e-6, 231.2, 1, "conv_direct")
    assert right.share == pytest.approx(0.5, rel=1e-3)
    assert "50.0%" in line_of(right)
    assert "WRONG" in line_of(Share("common_r50_3x3_14", "host", 2.0, 1.0, 1e-2, 231.2))
    assert line_of(Share("common_r50_3x3_14", "host", failure="no")).endswith("no")


@pytest.mark.slow
def test_the_peak_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    (tmp_path / "benchmarks").symlink_to(Path(machine.__file__).parent)
    peak = machine.Peak({"avx2": 90.0, "avx512": 170.0}, {})
    assert peak.best_gflops == 170.0
    for name, (width, _, flag) in machine._VECTORS.items():
        if machine._has(flag):
            # A core does from 4 (one vector unit of 128 bits at 0.5 GHz) to 1,000 GFLOP/s.
            assert 4 < machine.fma_gflops(8 * width, 0.01) < 1000, name
    with pytest.raises(ValueError, match="no vectors of 24 bits"):
        machine.fma_gflops(24, 0.01)
