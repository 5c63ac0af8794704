"""The whole road in one program: networks from PyPI, deploycc, CMake, a C++ app, a photographed page.

    python -m examples.ocr.demo [--threads N] [--runs N] [--out DIR]

Builds PP-OCRv4's text detector and recogniser for this machine, builds the C++ app of this folder with
CMake on the two packages, and has it read a photograph of a printed page.  Fails unless the text is
right and every network output matches ONNX Runtime's.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from benchmarks.networks import fetch
from benchmarks.pinned import ROOT, FileUnavailable, PinnedFile, fetch_file
from benchmarks.reference import TOLERANCE, relative_error

PAGE = PinnedFile(
    package="scikit-image",
    version="0.25.2",
    path="skimage/data/page.png",
    sha256="341a6f0a61557662b02734a9b6e56ec33a915b2c41886b97509dedf2a43b47a3",
)
"""A photograph of a printed page, a little askew and unevenly lit; 384 x 191 pixels."""

EXPECTED = (
    "Region-based segmentation",
    "Let us first determine markers of the coins and the",
    "background. These markers are pixels that we can label",
    "unambiguously as either object or background. Here,",
    "the markers are found at the two extreme parts of the",
    "histogram of grey values:",
    "markers = np.zeros_like(coins)",
)
"""What is printed there, line by line.  The network was trained for Chinese, which has no spaces between
words, and drops some of ours, so they do not count; nor does the prompt before the last line, faint print
at the page's torn edge.  Every other character must be right."""


@dataclass(frozen=True)
class Stage:
    """One of the two networks: package name, entry of networks.toml, input shape N x C x H x W."""

    name: str
    network: str
    shape: tuple[int, int, int, int]


DETECTOR = Stage("ppocr_det", "ppocrv4_det", (1, 3, 320, 640))
RECOGNISER = Stage("ppocr_rec", "ppocrv4_rec_ch", (1, 3, 48, 960))


class DemoFailed(Exception):
    """A step did not give what it must; the text says which."""


def comparable(text: str) -> str:
    """Without spaces and leading prompt, full-width forms of Chinese typesetting made plain."""
    return "".join(unicodedata.normalize("NFKC", text).split()).lstrip(">")


def command(words: Sequence[str | Path], what: str) -> None:
    """Run a program that talks to the terminal itself.  Raises DemoFailed."""
    # A make that calls us would otherwise tell the app's own make to chat about folders.
    environment = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL")}
    if subprocess.run([str(word) for word in words], check=False, env=environment).returncode != 0:
        raise DemoFailed(f"{what} failed")


def write_dictionary(model: Path, file: Path) -> None:
    """The recogniser's characters, one a line, which its ONNX file carries as metadata."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    characters = session.get_modelmeta().custom_metadata_map["character"].split("\n")
    classes = session.get_outputs()[0].shape[2]
    # The metadata ends in a line break or not; the class count tells: blank + characters + space.
    file.write_text("".join(f"{c}\n" for c in characters[: classes - 2]), encoding="utf-8", newline="\n")


def write_page(source: Path, file: Path) -> None:
    """The page as binary PGM, which the app reads without any library."""
    with Image.open(source) as image:
        grey = image.convert("L")
    file.write_bytes(b"P5\n%d %d\n255\n" % grey.size + grey.tobytes())


def build_package(stage: Stage, model: Path, folder: Path) -> None:
    """``deploycc build`` as a user would call it."""
    shape = "x".join(map(str, stage.shape))
    command(
        [
            *(sys.executable, "-m", "deploycc", "build", model, "--target", "host"),
            *("--name", stage.name, "--shape", f"x={shape}", "-o", folder),
        ],
        f"building {stage.name}",
    )


def build_app(packages: Sequence[Path], folder: Path) -> Path:
    """CMake's find_package on the packages, nothing else."""
    prefixes = ";".join(str(package.resolve()) for package in packages)
    configure: list[str | Path] = ["cmake", "-S", Path(__file__).parent, "-B", folder]
    configure += ["-DCMAKE_BUILD_TYPE=Release", f"-DCMAKE_PREFIX_PATH={prefixes}"]
    command(configure, "configuring the app")
    command(["cmake", "--build", folder], "building the app")
    return folder / "ocr"


class App:
    """The running C++ app: its text, and the time of a network on demand."""

    def __init__(self, program: Path, page: Path, dictionary: Path, tensors: Path, threads: int) -> None:
        words = [program, page, dictionary, "--tensors", tensors, "--serve", "--threads", threads]
        self._process = subprocess.Popen(
            [str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
        )
        self.lines: list[tuple[float, str]] = []
        while (line := self._read()) != "":
            confidence, text = line.split("\t", 1)
            self.lines.append((float(confidence), text))

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise DemoFailed(f"the app ended early, status {self._process.wait()}")
        return line.rstrip("\n")

    def milliseconds(self, network: str) -> float:
        """Run ``det``, or ``rec`` on every line, once more."""
        assert self._process.stdin is not None
        self._process.stdin.write(network + "\n")
        self._process.stdin.flush()
        return float(self._read())

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.wait(timeout=60) != 0:
            raise DemoFailed("the app ended with an error")


def check_text(lines: Sequence[tuple[float, str]]) -> None:
    """Every line must be there and right.  Raises DemoFailed with both texts."""
    got, want = [comparable(text) for _, text in lines], [comparable(text) for text in EXPECTED]
    if got != want:
        raise DemoFailed("the text is wrong\n  read:    " + "\n           ".join(got)
                         + "\n  printed: " + "\n           ".join(want))  # fmt: skip


def check_and_time(app: App, models: dict[str, Path], tensors: Path, threads: int, runs: int) -> None:
    """ONNX Runtime on the very tensors the app used: outputs compared, then both timed in turns."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    print(f"\n{'':24}{'deploycc':>12}{'ONNX Runtime':>14}{'ratio':>8}{'error':>10}   (ms, {threads} thread)")
    for stage, word, count in ((DETECTOR, "det", 1), (RECOGNISER, "rec", len(app.lines))):
        session = onnxruntime.InferenceSession(
            str(models[stage.name]), options, providers=["CPUExecutionProvider"]
        )
        stems = ["det"] if word == "det" else [f"rec{i}" for i in range(count)]
        inputs = [np.fromfile(tensors / f"{s}.input.f32", np.float32).reshape(stage.shape) for s in stems]
        error = 0.0
        for stem, x in zip(stems, inputs, strict=True):
            want = session.run(None, {"x": x})[0]
            got = np.fromfile(tensors / f"{stem}.output.f32", np.float32).reshape(want.shape)
            error = max(error, relative_error(got, want))
        if error > TOLERANCE:
            raise DemoFailed(f"{stage.name}: off from ONNX Runtime by {error:.2g} of the largest output")
        ours, theirs = [], []
        for _ in range(runs):
            ours.append(app.milliseconds(word))
            start = time.perf_counter()
            for x in inputs:
                session.run(None, {"x": x})
            theirs.append((time.perf_counter() - start) * 1e3)
        mine, peer = statistics.median(ours), statistics.median(theirs)
        label = "detection" if word == "det" else f"recognition, {count} lines"
        print(f"{label:24}{mine:12.2f}{peer:14.2f}{mine / peer:8.2f}{error:10.1e}")


def demo(out: Path, threads: int, runs: int) -> None:
    """All steps.  Raises DemoFailed, FileUnavailable."""
    started = time.monotonic()
    if shutil.which("cmake") is None:
        raise DemoFailed("CMake is missing: install it (Debian: apt install cmake g++)")
    shutil.rmtree(out, ignore_errors=True)
    tensors = out / "tensors"
    tensors.mkdir(parents=True)
    models = {stage.name: fetch(stage.network) for stage in (DETECTOR, RECOGNISER)}
    write_page(fetch_file(PAGE), out / "page.pgm")
    write_dictionary(models[RECOGNISER.name], out / "characters.txt")
    for stage in (DETECTOR, RECOGNISER):
        build_package(stage, models[stage.name], out / stage.name)
    program = build_app([out / DETECTOR.name, out / RECOGNISER.name], out / "app")

    app = App(program, out / "page.pgm", out / "characters.txt", tensors, threads)
    print("\nThe app read (confidence, text):")
    for confidence, text in app.lines:
        print(f"  {confidence:.3f}  {text}")
    check_text(app.lines)
    check_and_time(app, models, tensors, threads, runs)
    app.close()
    print(f"\nThe text is right. {time.monotonic() - started:.0f} s in all.")


def main() -> int:
    """Command line; 1 when the demo fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=15, help="timed runs of each network (default 15)")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "demo", help="working folder")
    arguments = parser.parse_args()
    try:
        demo(arguments.out, arguments.threads, arguments.runs)
    except (DemoFailed, FileUnavailable) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
