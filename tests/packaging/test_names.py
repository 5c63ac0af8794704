"""Names: whatever the ONNX names are, the generated C and C++ compile and find their tensors."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploycc.element_types import ELEMENT_TYPES, check_dtypes
from deploycc.identifiers import (
    check_library_name,
    comment_text,
    string_literal,
    suggest_library_name,
    tensor_identifiers,
)
from deploycc.packaging import generate_c, generate_cpp
from deploycc.packaging.interface import interface_of
from deploycc.templates import fill
from deploycc.types import DeployccError, TensorInfo
from tests.packaging import plans
from tests.packaging.conftest import STRICT, run, tool

ODD = [
    "serving_default_input_2:0",
    "input.1",
    "input:1",
    "1",
    "画像",
    "",
    "class",
    "int",
    "linux",
    "std",
    "Inputs",
    "name",
    "shape",
    "size",
    "Span",
    "Model",
    "tiny",
    "self",
    "a*/b",
    'quote"d',
    "back\\slash",
    "back\\",
    "new\nline",
    "what??/",
    "x" * 300,
    "x",
    "X",
    "x_",
    "x_2",
    "_x",
    "$dollar",
    "//comment",
    "%s%n",
    "@N@",
    "${CMAKE}",
    "\x07",
]


def test_identifiers() -> None:
    names = ["x", "x", "input.1", "input:1", "1", "class", "画像", "std", "a__b", "x_2", "conv/Relu:0"]
    assert tensor_identifiers(names, "input") == (
        "x",
        "x_2",
        "input_1",
        "input_1_2",
        "input_1_3",
        "class_",
        "input6",
        "std_",
        "a_b",
        "x_2_2",
        "conv_Relu_0",
    )


@given(st.lists(st.text(max_size=120), max_size=12))
def test_identifiers_are_valid_and_differ(names: list[str]) -> None:
    made = tensor_identifiers(names, "output")
    assert len(set(made)) == len(names)
    assert tensor_identifiers(names, "output") == made
    for identifier in made:
        assert identifier.isascii()
        assert identifier.isidentifier()
        assert not identifier.startswith("_")
        assert "__" not in identifier
        assert identifier not in ("class", "int", "std", "Inputs")


@given(st.text())
def test_suggested_names_are_accepted(text: str) -> None:
    check_library_name(suggest_library_name(text))


def test_suggestions() -> None:
    assert suggest_library_name("ch_PP-OCRv4_det_infer") == "ch_PP_OCRv4_det_infer"
    assert suggest_library_name("3d.unet") == "net_3d_unet"
    assert suggest_library_name("class") == "class_net"
    assert suggest_library_name("") == "net"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("1x", "not a C identifier"),
        ("a-b", "not a C identifier"),
        ("a\n", "not a C identifier"),
        ("é", "not a C identifier"),
        ("_x", "not a C identifier"),
        ("a__b", "two underscores"),
        ("a_", "two underscores"),
        ("float", "keyword"),
        ("namespace", "keyword"),
        ("linux", "macro"),
        ("NULL", "macro"),
        ("c", "system library"),
        ("std", "system library"),
        ("a" * 101, "101 characters"),
    ],
)
def test_bad_library_names(name: str, reason: str) -> None:
    with pytest.raises(DeployccError) as caught:
        check_library_name(name)
    [diagnostic] = caught.value.diagnostics
    assert diagnostic.code == "DC704"
    assert reason in diagnostic.message
    check_library_name(diagnostic.help.rsplit(" ", 1)[1])


def test_element_types_without_a_c_type() -> None:
    tensors = (
        TensorInfo("a", "float8_e4m3fn", (1,)),
        TensorInfo("b", "float32", (1,)),
        TensorInfo("c", "str", ()),
    )
    with pytest.raises(DeployccError) as caught:
        check_dtypes(tensors)
    assert [d.code for d in caught.value.diagnostics] == ["DC705", "DC705"]
    assert "tensor 'a' has element type float8_e4m3fn" in caught.value.diagnostics[0].message


SEED = int(os.environ.get("DEPLOYCC_TEST_SEED", secrets.randbelow(1 << 32)))
FRAGMENTS = (
    *(
        "??/",
        "??=",
        "\\\n",
        "\\",
        "*/",
        "/*",
        "//",
        '"',
        "'",
        "%s",
        "%n",
        "\u202e",
        "\u2066",
        "é",
        "画",
        "\r",
        "\n",
    ),
    *(
        "#include",
        "#",
        "<a>",
        "</script>",
        "${X}",
        "@N@",
        "`id`",
        "$(id)",
        "\x1b[31m",
        "\x7f",
        "\t",
        " ",
        "::",
        "->",
    ),
    *(
        'R"(',
        ')"',
        "\\u0041",
        "\\x41",
        "int",
        "class",
        "x",
        "_",
        "__",
        "0",
        "1",
        "A",
        ".",
        "-",
        ":",
        "\ufeff",
        "\u2028",
    ),
    *("__LINE__", "__FILE__", "_Pragma(", ";", "{", "}", ")", "\U0001f600", "e\u0301", "\ufffe", "%:", "<:"),
)


def drawn_names(count: int) -> list[str]:
    """Names nobody wrote down, some of them as long as import lets pass, all different."""
    draw = random.Random(SEED)
    names = {"".join(draw.choices(FRAGMENTS, k=draw.choice((1, 2, 3, 5, 8, 40)))) for _ in range(count)}
    names |= {("??/" * 2000)[:4000], "\\" * 3999 + "x", "é" * 2000}
    return sorted(names - set(ODD))


def odd_interface(names: Sequence[str] = ODD):
    dtypes = list(ELEMENT_TYPES)
    infos = tuple(
        TensorInfo(name, dtypes[i % len(dtypes)], ((), (2, 3), (1,), (0, 4))[i % 4])
        for i, name in enumerate(names)
    )
    plan = replace(plans.make_plan(plans.X86_64, kernels=b""), inputs=infos, outputs=infos, calls=())
    return interface_of(plan, plans.make_request(plans.X86_64)), plan


def test_odd_names_compile_everywhere(tmp_path: Path) -> None:
    print(f"DEPLOYCC_TEST_SEED={SEED}")
    names = [*ODD, *drawn_names(40)]
    interface, plan = odd_interface(names)
    from deploycc.packaging import generate_build
    from deploycc.packaging.toolchain import runtime_directory

    (tmp_path / "tiny.h").write_text(generate_c.header(interface))
    (tmp_path / "tiny.hpp").write_text(generate_cpp.header(interface))
    (tmp_path / "tiny.c").write_text(generate_c.source(interface, plan))
    (tmp_path / "main.cpp").write_text(generate_build.example_main(interface))
    lines = [
        f"    CHECK(tiny_input_info({i})->name, {string_literal(name)});\n" for i, name in enumerate(names)
    ]
    (tmp_path / "names.c").write_text(
        '#include "tiny.h"\n#include <string.h>\n'
        "#define CHECK(a, b) if (strcmp(a, b) != 0) return 1\n"
        "int main(void) {\n" + "".join(lines) + "    return 0;\n}\n"
    )
    include = f"-I{tmp_path}"
    run([tool("gcc"), "-std=c99", *STRICT, include, "-c", tmp_path / "names.c", "-o", tmp_path / "n.o"])
    runtime = f"-I{runtime_directory()}"
    run(
        [
            tool("gcc"),
            "-std=c11",
            *STRICT,
            include,
            runtime,
            "-c",
            tmp_path / "tiny.c",
            "-o",
            tmp_path / "t.o",
        ]
    )
    cpp = [tool("g++"), "-std=c++17", *STRICT, "-Wconversion", include, '-DGOLDEN_FOLDER="."']
    run([*cpp, "-c", tmp_path / "main.cpp", "-o", tmp_path / "m.o"])
    clang = [
        plans.zig(),
        "c++",
        "-std=c++17",
        *STRICT,
        include,
        '-DGOLDEN_FOLDER="."',
        "-c",
        tmp_path / "main.cpp",
    ]
    run([*clang, "-o", tmp_path / "clang.o"], env=plans.zig_environment())
    sources = sorted(str(p) for p in runtime_directory().glob("*.c"))
    objects = [tmp_path / "n.o", tmp_path / "t.o", "-x", "assembler", tmp_path / "w.s", "-x", "c", *sources]
    (tmp_path / "w.bin").write_bytes(plan.weights)
    (tmp_path / "w.s").write_text(
        generate_c.weights_assembly("tiny", str(tmp_path / "w.bin"), "").split("*/")[1]
    )
    run([tool("gcc"), "-std=c11", runtime, *objects, "-lpthread", "-o", tmp_path / "names"])
    run([tmp_path / "names"])


@given(st.text())
def test_literals_and_comments_are_inert(text: str) -> None:
    literal = string_literal(text)
    assert literal.isascii()
    assert "??" not in literal
    assert "\n" not in literal
    inside = literal[1:-1]
    assert '"' not in inside.replace('\\"', "")
    decoded = bytearray()
    at = 0
    while at < len(inside):
        if inside[at] == "\\":
            decoded.append(int(inside[at + 1 : at + 4], 8))
            at += 4
        else:
            decoded.append(ord(inside[at]))
            at += 1
    assert decoded == text.encode("utf-8", "surrogateescape")
    comment = comment_text(text)
    assert "*/" not in comment
    assert "/*" not in comment
    assert "\n" not in comment
    assert comment.isascii()


def test_templates_name_every_key() -> None:
    assert fill("a @X@ b @Y@", {"X": "@Y@", "Y": "1"}) == "a @Y@ b 1"
    with pytest.raises(KeyError):
        fill("@X@", {})
    with pytest.raises(ValueError, match="unpaired"):
        fill("a@b", {})


def test_contradicting_calls_are_ours() -> None:
    from deploycc.types import Buffer, Call

    x = Buffer("input", 0, 0, 4)
    interface, plan = odd_interface()
    with pytest.raises(ValueError, match="different numbers of arguments"):
        generate_c.source(interface, replace(plan, calls=(Call("k", (x,)), Call("k", (x, x)))))
    with pytest.raises(ValueError, match="destination and a source"):
        generate_c.source(interface, replace(plan, calls=(Call("memcpy", (x,)),)))
