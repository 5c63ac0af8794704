"""The page, opened in a browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from deploycc.lint import LintResult, lint_model
from deploycc.lint_types import Report
from deploycc.reporting import FORMATS, grouped, render
from deploycc.reporting.html.markup import Markup, element
from deploycc.reporting.html.page import Section, page
from tests.reporting.browsing import Opened, open_page, probed
from tests.reporting.results import empty, hostile, node, small

PROBE = """
const visible = (s) => all(s).filter((e) => e.offsetParent !== null);
const answer = {};
const count = () => visible(".finding").length;
answer.first = count();
answer.classes = all("figure:not([hidden]) .n[data-i]").map((e) => e.getAttribute("class"));
one('.findings button.node').click();
answer.selected = one(".n.selected").querySelector("title").textContent;
answer.card = one(".node-card h3").textContent;
answer.of_node = count();
one(".close").click();
one("input[name=verdict][value=fallback]").click();
answer.without_fallback = count();
answer.dim = all(".n.dim").length;
one("input[name=verdict][value=fallback]").click();
const search = one("#search");
search.value = "dc402";
search.dispatchEvent(new Event("input"));
answer.by_code = count();
search.value = "SOFTPLUS_3";
search.dispatchEvent(new Event("input"));
answer.by_node = [count(), all(".n[data-i]:not(.dim)").length];
answer.told = one(".found").textContent;
search.value = "";
search.dispatchEvent(new Event("input"));
const key = (k) => one(".scroller").dispatchEvent(new KeyboardEvent("keydown", { key: k, bubbles: true }));
const name = () => one(".node-card h3").textContent;
answer.keys = ["Home", "ArrowDown", "ArrowDown", "ArrowDown", "ArrowRight", "ArrowDown", "p"].map(
  (k) => { key(k); return name(); }
);
key("Escape");
key("Tab");
answer.closed = one(".node-card").hidden;
one('[data-choose="1"]').click();
answer.second = [count(), all(".n.unsupported").length, one("input[name=target]:checked").value];
answer.tables = visible("table.costly").length;
tell(answer);
"""


def test_a_reader_finds_their_way(tmp_path: Path) -> None:
    """Counting findings, selecting nodes, filters, search, keys and the other target."""
    path = tmp_path / "page.html"
    path.write_text(probed(small(), PROBE), encoding="utf-8")
    opened = open_page(path)
    assert opened.console == ()
    answer = opened.answer()
    assert answer["first"] == len(grouped(small().reports[0])) == 6
    assert answer["classes"] == [f"n {n.verdict or 'ok'}" for n in small().reports[0].nodes]
    assert answer["selected"] == "Resize up/resize"
    assert answer["card"] == "up/resize"
    assert answer["of_node"] == 1
    assert answer["without_fallback"] == 5
    assert answer["dim"] == 6
    assert answer["by_code"] == 1
    assert answer["by_node"] == [1, 1]
    assert answer["told"] == "1 finding at 6 nodes, 1 node matches “softplus_3”"
    assert answer["keys"] == [
        "stem/conv",
        "up/resize",
        "head/conv",
        "head/softplus_0",
        "head/softplus_1",
        "head/mod",
        "head/softplus_5",
    ]
    assert answer["closed"]
    assert answer["second"] == [0, 0, "1"]
    assert answer["tables"] == 1


def test_nothing_of_the_model_runs(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(
        probed(hostile(), "tell([all('img').length, one('.node-card') !== null, all('.finding').length]);"),
        encoding="utf-8",
    )
    opened = open_page(path)
    assert opened.console == ()
    assert opened.answer() == [0, True, 2]


def test_the_policy_refuses_scripts_that_are_not_the_pages_own(tmp_path: Path) -> None:
    """Were something not escaped after all, it would still not run."""
    path = tmp_path / "page.html"
    text = probed(small(), "tell([document.title, typeof window.planted]);")
    planted = "<script>window.planted = 1</script><img src=x onerror='window.planted = 1'>"
    path.write_text(text.replace("<main", f"{planted}<main", 1), encoding="utf-8")
    opened = open_page(path)
    assert opened.answer() == ["probe", "undefined"]
    assert any("Content Security Policy" in line for line in opened.console)


def test_a_page_without_nodes(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(render("html", empty()), encoding="utf-8")
    opened = open_page(path)
    assert opened.console == ()
    assert "0 findings" in opened.document


@pytest.mark.slow
def test_the_largest_public_network(network: Callable[[str], Path], tmp_path: Path) -> None:
    """u2netp has the most nodes of them; nested U-Nets have the longest edges."""
    result = lint_model(network("u2netp"), ["snpe:htp", "arm64"])
    text = probed(result, "tell([all('.finding').length, all('figure:not([hidden]) .n[data-i]').length]);")
    assert len(text.encode()) < 3 << 20
    path = tmp_path / "page.html"
    path.write_text(text, encoding="utf-8")
    opened = open_page(path)
    assert opened.console == ()
    findings = sum(len(grouped(report)) for report in result.reports)
    assert opened.answer() == [findings, len(result.reports[0].nodes)]
    assert len(result.reports[0].nodes) > 300
    for format_ in FORMATS:
        assert render(format_, result).endswith("\n")


def large(nodes: int) -> LintResult:
    """A network of residual blocks as long as the longest that is likely."""
    found = [node("stage_0/block/conv_0", "Conv", ["x"])]
    for i in range(1, nodes):
        reads = [f"{found[i - 1].name}:0", *([f"{found[i - 5].name}:0"] if i > 5 and i % 5 == 0 else [])]
        found.append(node(f"stage_{i // 40}/block/op_{i}", "Add" if len(reads) > 1 else "Conv", reads))
    report = Report((), target="snpe:htp", nodes=tuple(found))
    simplified = replace(report, target="arm64", nodes=tuple(found[:-1]))
    return LintResult(Path("large.onnx"), "", (report, simplified))


def test_two_thousand_nodes_and_two_graphs_stay_below_three_mebibytes() -> None:
    text = render("html", large(2000))
    assert text.count('class="graph"') == 2
    assert len(text.encode()) < 3 << 20


def test_targets_with_the_same_graph_share_the_drawing() -> None:
    report = small().reports[0]
    result = replace(small(), reports=(report, replace(report, target="snpe:gpu")))
    assert render("html", result).count("<svg") == render("html", small()).count("<svg")
    other = replace(report, target="snpe:gpu", nodes=report.nodes[1:])
    assert render("html", replace(result, reports=(report, other))).count('class="graph"') == 2


def test_it_is_self_contained() -> None:
    text = render("html", small())
    assert re.findall(r"""(?:src|href)=(?!"#)[^>]*""", text) == []
    assert "@import" not in text
    assert "url(" not in text
    assert "http" not in text.replace("http-equiv", "")


def test_a_section_brings_its_style_and_script_once() -> None:
    sections = [
        Section(f"s{i}", f"S{i}", Markup("<p>body</p>"), "p{color:red}", "let once;") for i in range(2)
    ]
    text = page("T", Markup(), sections)
    assert text.count("p{color:red}") == 1
    assert text.count("let once;") == 1
    assert text.count("<p>body</p>") == 2
    assert text.count('href="#s1"') == 1
    assert "script-src &#x27;sha256-" in text
    assert "script-src &#x27;none&#x27;" in page("T", Markup(), [Section("a", "A", Markup())])


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (element("p", "a < b", element("b", "&")), "<p>a &lt; b<b>&amp;</b></p>"),
        (
            element("a", href='"x"', class_="c", data_i=3, hidden=False),
            '<a href="&quot;x&quot;" class="c" data-i="3"></a>',
        ),
        (element("input", type="radio", checked=True, value=None), '<input type="radio" checked>'),
    ],
)
def test_elements(made: Markup, text: str) -> None:
    assert made == text


def test_console_messages_are_seen(tmp_path: Path) -> None:
    """What the other tests rely on."""
    path = tmp_path / "page.html"
    path.write_text(probed(small(), "tell(1); throw new Error('seen');"), encoding="utf-8")
    opened: Opened = open_page(path)
    assert any("seen" in line for line in opened.console)
