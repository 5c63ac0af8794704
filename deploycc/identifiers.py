"""Identifiers in generated code: library names that work, tensor names made safe and unique.

ONNX names are arbitrary strings (``serving_default_input_2:0``, ``input.1``, non-ASCII,
quotes, comment marks).  Generated C and C++ only ever sees what these functions return.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from deploycc.types import DeployccError, Diagnostic

# C17 and C++23 keywords and alternative tokens (ISO C17 6.4.1, ISO C++23 lex.key, lex.digraph).
_KEYWORDS = frozenset(
    """
    alignas alignof and and_eq asm atomic_cancel atomic_commit atomic_noexcept auto bitand bitor bool break
    case catch char char8_t char16_t char32_t class co_await co_return co_yield compl concept const
    const_cast consteval constexpr constinit continue decltype default delete do double dynamic_cast else
    enum explicit export extern false final float for friend goto if import inline int long module mutable
    namespace new noexcept not not_eq nullptr operator or or_eq override private protected public register
    reinterpret_cast requires restrict return short signed sizeof static static_assert static_cast struct
    switch template this thread_local throw true try typedef typeid typename typeof typeof_unqual union
    unsigned using virtual void volatile wchar_t while xor xor_eq
    """.split()
)

# Object-like macros that common C and C++ environments define without being asked (predefined by
# gcc outside strict ISO mode, or by <stdio.h>, <errno.h>, <assert.h>, <sys/sysmacros.h>, <math.h>).
_MACROS = frozenset(
    """
    linux unix i386 arm mips sparc errno assert stdin stdout stderr offsetof setjmp major minor makedev
    complex imaginary near far min max signals slots emit foreach NULL EOF I NAN INFINITY BUFSIZ
    TRUE FALSE BSD DOMAIN OVERFLOW UNDERFLOW HUGE HUGE_VAL RAND_MAX PATH_MAX NAME_MAX PAGE_SIZE INT_MAX
    LITTLE_ENDIAN BIG_ENDIAN BYTE_ORDER
    """.split()
)

_SCOPE_NAMES = frozenset({"std", "Inputs", "Outputs"})

# Names whose library would stand in for a system one, or whose symbols would.
_LIBRARIES = frozenset(
    "c m pthread dl rt util gcc gcc_s stdc++ c++ crypt resolv deploycc_rt main std dcc input output".split()
)

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z", re.ASCII)


def check_library_name(name: str) -> None:
    """Raise ``DeployccError`` (DC704) unless ``name`` works as C prefix, C++ namespace and library name."""
    if not _IDENTIFIER.match(name):
        reason = "it is not a C identifier that starts with a letter"
    elif "__" in name or name.endswith("_"):
        reason = "C++ reserves identifiers with two underscores, and symbols are NAME_create and the like"
    elif name in _KEYWORDS:
        reason = "it is a keyword of C or C++"
    elif name in _MACROS:
        reason = "C or C++ environments define it as a macro"
    elif name in _LIBRARIES:
        reason = f"a system library or symbol has that name (lib{name}.so)"
    elif len(name) > 100:
        reason = f"it has {len(name)} characters"
    else:
        return
    raise DeployccError(
        Diagnostic(
            "DC704",
            f"'{name}' cannot be the package's name: {reason}",
            got=name,
            need="a C and C++ identifier of at most 100 characters without '__'",
            help=f"choose another name, e.g. --name {suggest_library_name(name)}",
        )
    )


def suggest_library_name(name: str) -> str:
    """The nearest name that ``check_library_name`` accepts, from any text (a model's file name, say)."""
    base = re.sub(r"_+", "_", re.sub(r"[^A-Za-z0-9_]+", "_", name, flags=re.ASCII)).strip("_")[:90].strip("_")
    if not base or not base[0].isalpha():
        base = f"net_{base}".strip("_")
    if base in _KEYWORDS | _MACROS | _LIBRARIES:
        base = f"{base}_net"
    return base


def tensor_identifiers(names: Iterable[str], role: str) -> tuple[str, ...]:
    """One C and C++ identifier for each ONNX tensor name, in order, all different.

    ``role`` (``input`` or ``output``) stands in where nothing of a name is usable and goes in front
    of a leading digit.  Deterministic: the same names give the same identifiers.
    """
    taken: set[str] = set()
    result: list[str] = []
    for index, name in enumerate(names):
        base = (
            re.sub(r"_+", "_", re.sub(r"[^A-Za-z0-9]+", "_", name, flags=re.ASCII)).strip("_")[:80].strip("_")
        )
        if not base:
            base = f"{role}{index}"
        elif base[0].isdigit():
            base = f"{role}_{base}"
        elif base in _KEYWORDS | _MACROS | _SCOPE_NAMES:
            base = f"{base}_"
        identifier, number = base, 2
        while identifier in taken:
            identifier, number = f"{base.rstrip('_')}_{number}", number + 1
        taken.add(identifier)
        result.append(identifier)
    return tuple(result)


def string_literal(text: str) -> str:
    """A C and C++ string literal of ``text`` as UTF-8: ASCII only, no trigraphs, no open escapes."""
    pieces = []
    for byte in text.encode("utf-8", "surrogateescape"):
        char = chr(byte)
        if char in '"\\?' or not 32 <= byte < 127:
            pieces.append(f"\\{byte:03o}")
        else:
            pieces.append(char)
    return '"' + "".join(pieces) + '"'


def comment_text(text: str) -> str:
    """``text`` as it may stand inside a block comment: ASCII, one line, no comment marks."""
    ascii_text = "".join(char if 32 <= ord(char) < 127 and char != "\\" else "?" for char in text)
    return ascii_text.replace("*/", "* /").replace("/*", "/ *")[:200]
