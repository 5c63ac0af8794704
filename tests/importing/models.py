"""Model files for the import tests: written from onnx's text form or built by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import onnx
import pytest
from onnx import ModelProto, parser

from deploycc.importing import load
from deploycc.types import BuildRequest, DeployccError, Diagnostic, Model

NOT_USED: Any = None


def text(graph: str, opset: int = 18, head: str = "") -> ModelProto:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}{head}]>\n{graph}')


def request(path: Path, shapes: dict[str, tuple[int, ...]] | None = None) -> BuildRequest:
    return BuildRequest(model=path, target=NOT_USED, output=path.parent, name="m", shapes=shapes or {})


def load_file(path: Path, **shapes: tuple[int, ...]) -> Model:
    return load(request(path, shapes))


def load_proto(folder: Path, proto: ModelProto, shapes: dict[str, tuple[int, ...]] | None = None) -> Model:
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return load(request(path, shapes))


def refused(
    folder: Path, proto: ModelProto, shapes: dict[str, tuple[int, ...]] | None = None
) -> list[Diagnostic]:
    with pytest.raises(DeployccError) as raised:
        load_proto(folder, proto, shapes)
    return list(raised.value.diagnostics)


def refused_file(path: Path) -> Diagnostic:
    with pytest.raises(DeployccError) as raised:
        load(request(path))
    assert len(raised.value.diagnostics) == 1
    return raised.value.diagnostics[0]


def serialised(graph: str, opset: int = 18) -> bytes:
    return cast("bytes", text(graph, opset).SerializeToString())


def names(model: Model) -> list[str]:
    return [node.op_type for node in model.proto.graph.node]


def strip_names(proto: ModelProto) -> ModelProto:
    for node in proto.graph.node:
        node.name = ""
    return proto


__all__ = [
    "load_file",
    "load_proto",
    "names",
    "onnx",
    "refused",
    "refused_file",
    "serialised",
    "strip_names",
    "text",
]
