"""``export``: loads a factory from a Python file and runs ``torch.onnx.export`` on what it makes."""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import inspect
import io
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from deploycc.types import DeployccError, Diagnostic

Shapes = Mapping[str, Sequence[int]] | Sequence[tuple[str, Sequence[int]]]
OPSET = 20
"""Opset that is written: the newest that every stage of this release has been run on."""


def export(source: Any, shapes: Shapes, output: str | Path | None = None, *, seed: int = 0) -> Path:
    """Export a PyTorch module to an ONNX file and return the file's path.

    ``source`` is a ``torch.nn.Module``, or ``"FILE.py:FACTORY"``: the file is executed (only for code that
    is trusted) and ``FACTORY`` called without arguments, which returns the module.  The module is put
    in evaluation mode.  ``shapes`` has the shape of each parameter of ``forward`` by name, or as
    ``(name, shape)`` pairs where the name ``""`` means "the next in order"; inputs are float32.
    ``seed`` seeds torch before the factory is called, so that untrained weights are the same each
    time.  ``output`` is ``FACTORY.onnx`` (the class's name for a module) unless given.

    Raises ``DeployccError``: DC760 without torch, DC761 for a file that is missing or fails, DC762 for a
    factory that is missing, DC763 for one that fails or makes no module, DC764 for shapes that do
    not fit ``forward``, DC765 if torch cannot export it, DC731 if the output cannot be written.
    """
    pairs = list(shapes.items()) if isinstance(shapes, Mapping) else list(shapes)
    if isinstance(source, str):
        file, factory_name = _split(source)
        torch = _import_torch()
        torch.manual_seed(seed)
        network, stem = _make(torch, _load(file), factory_name, file), factory_name
    else:
        torch = _import_torch()
        network, stem = _check_module(torch, source, "source"), type(source).__name__
    data = _run_export(torch, network, _arguments(torch, network, pairs))
    return _write(Path(output) if output is not None else Path(f"{stem}.onnx"), data)


def _split(source: str) -> tuple[Path, str]:
    file_text, _, factory_name = source.rpartition(":")
    file = Path(file_text)
    if not file_text or not factory_name.isidentifier():
        raise DeployccError(
            Diagnostic(
                "DC761",
                f"{source!r} names no factory",
                need="FILE.py:FACTORY",
                help="e.g. my_net.py:make_net",
            )
        )
    if not file.is_file():
        raise DeployccError(Diagnostic("DC761", f"there is no file {file}", need="FILE.py:FACTORY"))
    return file, factory_name


def _import_torch() -> Any:
    try:
        import onnxscript  # noqa: F401
        import torch
    except ImportError as error:
        raise DeployccError(
            Diagnostic(
                "DC760",
                "export needs PyTorch and onnxscript",
                got=str(error),
                help="pip install 'deploycc[torch]' (see README for the CPU-only wheel)",
            )
        ) from None
    return torch


def _first_lines(error: BaseException, lines: int = 6) -> str:
    text = "".join(traceback.format_exception_only(error)).strip()
    return "\n        ".join(text.splitlines()[:lines])


def _where(error: BaseException, file: Path) -> str:
    """The last line of the user's file that the error passed through."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if Path(frame.filename).name == file.name:
            return f"{file}:{frame.lineno}"
    return str(file)


def _load(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # As if the file were run: it may import its neighbours, and torch finds its classes by module.
    sys.path.insert(0, str(file.resolve().parent))
    sys.modules[file.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise DeployccError(
            Diagnostic(
                "DC761", f"{file} fails when it is run", got=_first_lines(error), source=_where(error, file)
            )
        ) from None
    return module


def _make(torch: Any, module: ModuleType, factory_name: str, file: Path) -> Any:
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        callables = [
            name for name, value in vars(module).items() if callable(value) and not name.startswith("_")
        ]
        own = [name for name in callables if getattr(vars(module)[name], "__module__", "") == module.__name__]
        near = difflib.get_close_matches(factory_name, own, n=1)
        raise DeployccError(
            Diagnostic(
                "DC762",
                f"{file} has no function {factory_name}",
                got=f"it has {', '.join(own) or 'none of its own'}",
                help=f"did you mean {file}:{near[0]}?" if near else "",
            )
        )
    try:
        network = factory()
    except Exception as error:
        raise DeployccError(
            Diagnostic(
                "DC763",
                f"{factory_name}() fails",
                got=_first_lines(error),
                need="a function without arguments that returns a torch.nn.Module",
                source=_where(error, file),
            )
        ) from None
    return _check_module(torch, network, f"{factory_name}()")


def _check_module(torch: Any, network: Any, what: str) -> Any:
    if not isinstance(network, torch.nn.Module):
        raise DeployccError(
            Diagnostic(
                "DC763",
                f"{what} is no torch.nn.Module",
                got=f"{type(network).__module__}.{type(network).__qualname__}",
                need="a torch.nn.Module, or a function without arguments that returns one",
            )
        )
    return network.eval()


def _arguments(torch: Any, network: Any, shapes: Sequence[tuple[str, Sequence[int]]]) -> dict[str, Any]:
    """Example inputs by parameter name of ``forward``."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [p for p in inspect.signature(network.forward).parameters.values() if p.kind in kinds]
    names = [p.name for p in parameters]
    given: dict[str, Sequence[int]] = {}
    unnamed = iter([name for name in names if name not in {name for name, _ in shapes}])
    problems = []
    for name, shape in shapes:
        slot = name or next(unnamed, "")
        if slot in names and slot not in given:
            given[slot] = shape
        else:
            extents = "x".join(map(str, shape))
            problems.append(f"--shape {name}={extents}" if name else f"--shape {extents}")
    missing = [p.name for p in parameters if p.name not in given and p.default is inspect.Parameter.empty]
    if problems or missing:
        raise DeployccError(
            Diagnostic(
                "DC764",
                "the shapes given do not fit the parameters of forward()",
                got="; ".join(
                    [
                        *(f"no parameter for {problem}" for problem in problems),
                        *(f"no --shape for '{name}'" for name in missing),
                    ]
                ),
                need=f"one --shape each for forward({', '.join(names)})",
            )
        )
    return {name: torch.randn(*given[name]) for name in names if name in given}


def _run_export(torch: Any, network: Any, arguments: dict[str, Any]) -> bytes:
    noise = io.StringIO()
    try:
        with torch.no_grad(), contextlib.redirect_stdout(noise), contextlib.redirect_stderr(noise):
            network(**arguments)
    except Exception as error:
        raise DeployccError(
            Diagnostic(
                "DC764",
                "the module cannot be run on inputs of these shapes",
                got=_first_lines(error),
                need="--shape as forward() takes it",
            )
        ) from None
    try:
        with contextlib.redirect_stdout(noise), contextlib.redirect_stderr(noise):
            program = torch.onnx.export(
                network,
                kwargs=arguments,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(arguments),
                verbose=False,
            )
    except Exception as error:
        raise DeployccError(
            Diagnostic(
                "DC765",
                "torch cannot export this module",
                got=_first_lines(error.__cause__ or error),
                need="a module that torch.export can trace: no branch on tensor values, no unknown operators",
                help="torch.export.export(module, inputs) alone shows the whole report",
            )
        ) from None
    # torch's notes on each node stay: its Python line makes later diagnostics point at the source.
    data = program.model_proto.SerializeToString(deterministic=True)
    assert isinstance(data, bytes)
    return data


def _write(path: Path, data: bytes) -> Path:
    """Write aside and rename: the file is complete or absent."""
    aside = path.with_name(f".{path.name}.tmp")
    try:
        aside.write_bytes(data)
        aside.replace(path)
    except OSError as error:
        raise DeployccError(
            Diagnostic(
                "DC731", f"{path} cannot be written", got=error.strerror or str(error), help="choose with -o"
            )
        ) from None
    finally:
        aside.unlink(missing_ok=True)
    return path
