"""Operators of a user's own: what a file in an ``--op-dir`` is made of, and which this process has.

A file says in ``OPERATORS`` what its operators are called, which results they have, what they compute (in
numpy: what every other form is held to) and how they are lowered: by a converter of the same form as ours
(``deploycc.lowering.converters``) or by a C function that becomes part of the package (``CFunction``).
``deploycc.operator_files`` loads them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]
Attributes = Mapping[str, Any]


@dataclass(frozen=True)
class TensorKind:
    """Extents and numpy's name of the element type of an input or a result."""

    shape: tuple[int, ...]
    dtype: str = "float32"


Kinds = Sequence[TensorKind]


@dataclass(frozen=True)
class CFunction:
    """A C function ``int32_t NAME(const void *input..., void *output..., numbers...)`` and its file.

    ``numbers`` gives what follows the pointers: whole numbers arrive as ``int64_t``, others as ``double``.
    The function allocates nothing, writes only its outputs and returns 0.
    """

    file: Path
    function: str
    numbers: Callable[[Kinds, Attributes], Sequence[int | float]] = lambda kinds, attributes: ()


@dataclass(frozen=True)
class CustomOperator:
    """One operator.

    ``attributes`` has every attribute with its default, which also says its type.  ``outputs`` gives the
    kinds of the results from those of the inputs, ``compute`` the results from the inputs, both with all
    attributes.  ``lowering`` is a converter class or a ``CFunction``.  Without a ``domain`` it is an operator
    of the standard's that deploycc does not have.
    """

    name: str
    outputs: Callable[[Kinds, Attributes], Kinds]
    compute: Callable[[Sequence[Array], Attributes], Sequence[Array]]
    lowering: type | CFunction
    domain: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """Domain and name."""
        return self.domain, self.name

    def values(self, given: Attributes) -> dict[str, Any]:
        """All attributes: those of a node, and the defaults of the others."""
        return {**self.attributes, **given}


_INSTALLED: dict[tuple[str, str], CustomOperator] = {}


def installed() -> Mapping[tuple[str, str], CustomOperator]:
    """The operators of this process, by domain and name."""
    return _INSTALLED


def keep(operator: CustomOperator) -> None:
    """Have ``installed`` know the operator, in place of one of the same domain and name."""
    _INSTALLED[operator.key] = operator
