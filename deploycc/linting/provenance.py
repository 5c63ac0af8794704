"""Where in the user's Python a node came from, as torch's exporter wrote it into the model.

``torch.onnx.export`` gives every node ``metadata_props``: ``pkg.torch.onnx.stack_trace`` with the frames
of Python, outermost first as in a traceback, and ``pkg.torch.onnx.name_scopes``, the list of modules
around it with the node's own name last.  Both are read for reports only.
"""

from __future__ import annotations

import ast
import os
import re
from pathlib import PurePath

from onnx import NodeProto

STACK_TRACE = "pkg.torch.onnx.stack_trace"
NAME_SCOPES = "pkg.torch.onnx.name_scopes"

_FRAME = re.compile(r'^\s*File "(?P<file>[^"\n]+)", line (?P<line>\d+)', re.M)
_LIBRARIES = re.compile(r"(^|[/\\])(site-packages|dist-packages|lib[/\\]python3[.\d]*)[/\\]|^<")
"""Frames of installed packages and of code without a file are not the user's own."""


def location(node: NodeProto) -> str:
    """``net.py:31 (layer1.conv)``: the innermost frame in the user's own files, and the module.

    Either alone where only that is known, empty without both.  A file below the current folder has its
    path from there, any other its bare name: a report says nothing of the machine of the export.
    """
    notes = {entry.key: entry.value for entry in node.metadata_props}
    line, module = _line(notes.get(STACK_TRACE, "")), _module(notes.get(NAME_SCOPES, ""))
    return f"{line} ({module})" if line and module else line or module


def _line(trace: str) -> str:
    frames = [found for found in _FRAME.finditer(trace) if not _LIBRARIES.search(found["file"])]
    if not frames:
        return ""
    path = frames[-1]["file"]
    here = os.path.join(os.getcwd(), "")
    shown = path[len(here) :] if path.startswith(here) else PurePath(path.replace("\\", "/")).name
    return f"{shown}:{frames[-1]['line']}"


def _module(scopes: str) -> str:
    """The path of the innermost module: the last but one of ``['', 'layer1', 'layer1.conv', 'conv2d']``.

    ``torch.export`` numbers the calls of a module that is called more than once: ``act@1``.
    """
    try:
        names = ast.literal_eval(scopes)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ""
    return re.sub(r"@\d+", "", names[-2]) if len(names) > 1 else ""
