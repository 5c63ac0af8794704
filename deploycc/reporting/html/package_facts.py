"""What a package is made of and what an app has to know of it: sizes, interface, ABI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploycc.reporting.html.chart import facts, folded, table
from deploycc.reporting.html.graph_svg import shape_text
from deploycc.reporting.html.markup import Markup, element, joined
from deploycc.reporting.html.page import Section
from deploycc.reporting.package_result import PackageResult
from deploycc.reporting.package_summary import nodes_text, operators_text
from deploycc.reporting.quantities import nbytes, plural, share
from deploycc.tolerances import precision_text

_SHOWN = 12


def sizes(result: PackageResult) -> Section:
    """The library's bytes by what they are, and the weights by layer."""
    memory, library = result.manifest["memory"], result.manifest["library"]
    whole = library["bytes"]
    weights = memory["weight_bytes"]
    code = library["code_bytes"]
    rows = [("code, runtime and tables", code), ("weights", weights)]
    linked = code + weights == whole
    bars = [_bar(name, size, whole if linked else max(code, weights)) for name, size in rows]
    others = sum(
        entry.get("bytes", 0) for name, entry in result.manifest["files"].items() if name != library["file"]
    )
    notes = [
        ("library", f"{nbytes(whole)} ({library['file']})"),
        ("arena", f"{nbytes(memory['arena_bytes'])} of working memory"),
        ("parameters", f"{result.manifest['model']['parameters']:,} before packing"),
        ("the package's other files", nbytes(others) if others else ""),
    ]
    parts = [facts(notes, "numbers"), element("ol", *bars, class_="kinds")]
    parts += _weights_by_layer(result, weights)
    return Section("sizes", "Sizes", joined(*parts))


def _weights_by_layer(result: PackageResult, weights: int) -> list[Markup]:
    """Weights that several layers read count where they are read first."""
    seen: set[tuple[int, int]] = set()
    found = []
    for layer, call in zip(result.layers, result.manifest["calls"], strict=True):
        places = {(b["offset"], b["bytes"]) for b in call["reads"] if b["kind"] == "constant"}
        size = sum(count for _, count in places - seen)
        seen |= places
        if size:
            found.append((size, layer))
    found.sort(key=lambda item: (-item[0], item[1].step))
    if not found:
        return []
    most = found[0][0]
    bars = [
        _bar(f"{layer.step} {operators_text(layer)} {nodes_text(layer.nodes, 1)}", size, most, weights)
        for size, layer in found
    ]
    parts = [element("h3", "Weights by layer"), element("ol", *bars[:_SHOWN], class_="kinds")]
    if bars[_SHOWN:]:
        rest = sum(size for size, _ in found[_SHOWN:])
        title = f"{plural(len(bars) - _SHOWN, 'more layer')}, {nbytes(rest)}"
        parts.append(folded(title, element("ol", *bars[_SHOWN:], class_="kinds")))
    return parts


def _bar(name: str, size: int, most: int, whole: int | None = None) -> Markup:
    width = 100 * size / most if most else 0
    text = nbytes(size) + (f", {share(size, whole)}" if whole else "")
    return element(
        "li",
        element("span", name, class_="label"),
        element("span", text, class_="share"),
        element("span", element("i", style=f"width:{width:.2f}%", class_="h2"), class_="track"),
    )


def interface(result: PackageResult) -> Section:
    """Inputs, outputs, and what the library needs of the machine and shows to the app."""
    manifest = result.manifest
    target, library, name = manifest["target"], manifest["library"], manifest["name"]
    head = ("", "name", "in C++", "type", "shape", "bytes", "tolerance")
    rows = [
        (
            role,
            element("code", tensor["name"]),
            element("code", f"{role}::{tensor['identifier']}"),
            tensor["dtype"],
            shape_text(tensor["shape"]),
            nbytes(tensor["bytes"]),
            f"{tensor['tolerance']:g}" if "tolerance" in tensor else "exact",
        )
        for role, tensors in (("input", manifest["inputs"]), ("output", manifest["outputs"]))
        for tensor in tensors
    ]
    floor = target["glibc_floor"]
    abi = [
        ("target", f"{target['name']} ({target['llvm_triple']})"),
        ("processor", " ".join([target["cpu"], *target["features"]]).strip()),
        ("machine", " ".join(w for w in (result.library.machine, _bits(result)) if w)),
        ("SONAME", result.library.soname),
        ("needs", ", ".join(library["needed"]) or "no library"),
        ("C library", target["libc"]),
        *([("precision", precision_text(manifest))] if precision_text(manifest) else []),
        ("glibc", _glibc(library, floor)),
        (
            "C interface",
            f"version {manifest['interface']['abi_version']}, {name}.h (C99), {name}.hpp (C++17)",
        ),
        ("form", f"{manifest['interface']['emit']}, runtime {manifest['interface']['runtime']}"),
        ("model", f"SHA-256 {manifest['model']['sha256'][:16]}…"),
        ("built with", ", ".join(f"{k} {v}" for k, v in manifest["versions"].items() if v)),
    ]
    symbols = manifest["interface"]["symbols"]
    body = joined(
        table(head, rows),
        facts(abi, "pairs wide"),
        folded(
            f"{plural(len(symbols), 'exported symbol')}, all beginning with {name}_",
            element("p", element("code", "  ".join(symbols)), class_="symbols"),
        ),
    )
    return Section("interface", "Interface and ABI", body)


def _bits(result: PackageResult) -> str:
    return f"{result.library.bits} bit" if result.library.bits else ""


def _glibc(library: Mapping[str, Any], floor: str) -> str:
    if not floor:
        return ""
    highest = library["highest_glibc"]
    return f"floor {floor}" + (f", the newest symbol it uses is {highest}'s" if highest else "")
