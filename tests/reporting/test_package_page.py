"""The page of a package: what it says, what it draws, and that it opens."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from deploycc.facts import facts_from_json, facts_to_json
from deploycc.reporting.arena import flow_of
from deploycc.reporting.html.chart import Scale
from deploycc.reporting.html.markup import Markup, element
from deploycc.reporting.html.package_page import package_sections, render_package
from deploycc.reporting.html.page import Section, page
from deploycc.reporting.operator_text import operator_text
from deploycc.reporting.package_result import PackageResult
from deploycc.reporting.package_summary import highlights, nodes_text, summary_text
from deploycc.reporting.reasons import why
from deploycc.result_types import Ceilings
from tests.reporting import packages
from tests.reporting.browsing import open_page
from tests.reporting.results import HOSTILE

TELL = (
    "const tell = (v) => { document.getElementById('probe-answer').textContent = JSON.stringify(v); };"
    "const one = (s) => document.querySelector(s), all = (s) => [...document.querySelectorAll(s)];"
)


def probed(result: PackageResult, script: str) -> str:
    probe = Section("probe", "Probe", element("pre", id="probe-answer"), script=f"{{{TELL}{script}}}")
    return page("probe", Markup(), [*package_sections(result), probe])


def answer(result: PackageResult, script: str, path: Path) -> object:
    path.write_text(probed(result, script), encoding="utf-8")
    opened = open_page(path)
    assert opened.console == ()
    return opened.answer()


def words(markup: str) -> str:
    """The text of a page, a line an element."""
    body = re.sub(r"<(style|script|title).*?</\1>", "", markup, flags=re.S)
    return "\n".join(line for line in re.sub(r"<[^>]*>", "\n", body).splitlines() if line.strip())


@pytest.mark.parametrize("kind", ["static", "measured"])
def test_what_a_newcomer_reads_first(kind: str, golden: Callable[[str, str], None]) -> None:
    golden(f"package-{kind}.txt", summary_text(getattr(packages, kind)()))


def test_what_the_page_says(golden: Callable[[str, str], None]) -> None:
    """Every section's words; the graph is drawn by a script's data and tested in a browser."""
    sections = [s for s in package_sections(packages.measured()) if s.identifier != "graph"]
    golden("package-page.txt", "\n\n".join(f"== {s.title}\n{words(s.body)}" for s in sections) + "\n")


def test_what_is_not_measured_is_said() -> None:
    text = words(render_package(packages.static()))
    assert "Not measured: bars are shares of the static estimate" in text
    assert "Not measured: estimated FLOP a cycle" in text
    assert "60.0 % of the estimated cycles: an estimate, not measured" in text
    assert [h.value for h in highlights(packages.static()) if h.name == "worst error"] == ["not measured"]
    reason = replace(packages.static(), unmeasured={"verification": "DC800: another machine"})
    assert "DC800: another machine" in words(render_package(reason))


def test_a_package_of_an_older_deploycc_has_no_passes() -> None:
    titles = [s.title for s in package_sections(replace(packages.static(), facts=None))]
    assert "What each pass did" not in titles
    assert "Graph" in titles
    assert {"Layers by time", "Memory over the run", "Sizes", "Interface and ABI"} <= set(titles)


def test_equal_results_give_equal_bytes_without_a_network() -> None:
    text = render_package(packages.measured())
    assert text == render_package(packages.measured())
    assert re.findall(r"""(?:src|href)=(?!"#)[^>]*""", text) == []
    assert "url(" not in text
    assert "http" not in text.replace("http-equiv", "")


def test_a_reader_finds_the_slowest_layer_and_its_nodes(tmp_path: Path) -> None:
    script = """
      const a = {};
      a.first = one(".bars summary b").textContent;
      a.chosen = one(".node-card") && !one(".node-card").hidden;
      one('input[name=target][value="1"]').click();
      a.steps = all("figure:not([hidden]) .n[data-i]").map((n) => n.getAttribute("class"));
      one('figure:not([hidden]) .n[data-i="1"]').dispatchEvent(new MouseEvent("click", { bubbles: true }));
      a.card = one(".node-card").textContent;
      one(".node-card button[data-where]").click();
      a.back = [one(".node-card h3").textContent, one("input[name=target]:checked").value];
      const mark = one("#memory [data-tell]");
      mark.dispatchEvent(new MouseEvent("click", { bubbles: true }));
      a.told = mark.closest("figure").querySelector(".told").textContent;
      one('a.answer[href="#layers"]').click();
      a.open = one("#layers details").open;
      tell(a);
    """
    found = answer(packages.measured(), script, tmp_path / "page.html")
    assert isinstance(found, dict)
    assert found["first"] == "mean"
    assert not found["chosen"]
    assert found["steps"] == ["n ok h4", "n ok h4", "n ok h4", "n ok h3"]
    assert "head/pool" in found["card"]
    assert "reduction" in found["card"]
    assert found["back"] == ["head/pool", "0"]
    assert found["told"] == "stem: 8 KiB at 0, written by step 0, last read by step 2"
    assert found["open"]


def test_nothing_of_the_model_runs(tmp_path: Path) -> None:
    text = render_package(packages.hostile())
    assert HOSTILE not in text
    assert "<script>alert" not in text
    assert "<img" not in text
    found = answer(
        packages.hostile(), "tell([all('img').length, all('.bars li').length]);", tmp_path / "p.html"
    )
    assert found == [0, 4]


def test_a_phone_scrolls_figures_and_never_the_page(tmp_path: Path) -> None:
    """390 pixels: everything is inside, or inside a box that scrolls by itself."""
    script = """
      document.documentElement.style.width = "390px";
      for (const fold of all("details")) fold.open = true;
      const boxed = (e) => e.closest(".scroll, .drawing, .scroller, .unseen, .skip, .zoom");
      const wide = all("main *").filter((e) => !boxed(e) && e.getBoundingClientRect().right > 391);
      tell(wide.map((e) => `${e.tagName} ${e.className} ${e.textContent.slice(0, 40)}`));
    """
    for number, result in enumerate((packages.measured(), packages.hostile())):
        path = tmp_path / f"{number}.html"
        path.write_text(probed(result, script), encoding="utf-8")
        assert open_page(path, "500,900").answer() == []


def test_lives_in_the_arena() -> None:
    """By hand: a tensor ends with its last reader; one that is written over ends before."""
    flow = packages.static().flow
    assert [(life.start, life.end, life.nbytes) for life in flow.lives] == [
        (0, 2, 8192),
        (1, 2, 32),
        (2, 3, 8192),
    ]
    assert flow.reads == ((), (0,), (0, 1), (2,))
    assert flow.inputs == ((0,), (), (), ())
    assert flow.live == (8192, 8224, 16416, 8192)
    assert flow.peak == 2
    place = packages.place
    calls = [
        {"reads": [], "writes": [place("arena", 0, 64)]},
        {"reads": [place("arena", 0, 64)], "writes": [place("arena", 0, 64)]},
        {"reads": [], "writes": [place("arena", 64, 64)]},
        {"reads": [place("arena", 0, 128)], "writes": [place("output", 0, 4, index=0)]},
    ]
    flow = flow_of(calls)
    assert [(life.start, life.end) for life in flow.lives] == [(0, 1), (1, 3), (2, 3)]
    assert flow.live == (64, 64, 128, 128)


@pytest.mark.parametrize("seed", range(5))
def test_random_plans_are_drawn_as_a_slow_simulation_says(seed: int) -> None:
    """Bytes in use by step, against a map of every single byte."""
    choose = random.Random(seed)
    calls = []
    for _ in range(12):
        at, size = choose.randrange(40), choose.randrange(1, 20)
        reads = [packages.place("arena", choose.randrange(50), choose.randrange(1, 9)) for _ in range(2)]
        calls.append({"reads": reads, "writes": [packages.place("arena", at, size)]})
    flow = flow_of(calls)
    spans: list[tuple[int, int, set[int]]] = []
    for step, call in enumerate(calls):
        write = call["writes"][0]
        mine, last = set(range(write["offset"], write["offset"] + write["bytes"])), step
        for later in range(step + 1, len(calls)):
            if any(mine & set(range(r["offset"], r["offset"] + r["bytes"])) for r in calls[later]["reads"]):
                last = later
            over = calls[later]["writes"][0]
            if mine & set(range(over["offset"], over["offset"] + over["bytes"])):
                break
        spans.append((step, last, mine))
    live = [len(set().union(*(m for a, b, m in spans if a <= step <= b))) for step in range(len(calls))]
    assert list(flow.live) == live


def test_facts_survive_their_file() -> None:
    told = facts_to_json(packages.facts())
    assert told == facts_to_json(packages.facts())
    again = facts_from_json(told)
    assert facts_to_json(again) == told
    assert again.read == packages.facts().read
    assert again.report == packages.facts().report
    assert [r.status for r in again.records] == ["ok", "wrong", "ok"]
    hostile = packages.hostile().facts
    assert hostile is not None
    assert facts_to_json(hostile).isascii()
    assert facts_from_json(facts_to_json(hostile)).read == hostile.read


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"format": "deploycc build facts"}'])
def test_facts_that_are_none(damage: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        facts_from_json(damage.encode())
    table = json.loads(facts_to_json(packages.facts()))
    table["read"] = 3
    with pytest.raises(ValueError, match="TypeError"):
        facts_from_json(json.dumps(table).encode())


def test_why_a_layer_is_slow() -> None:
    ceilings = Ceilings(100.0, 10.0, "")
    layer = replace(packages.static().layers[0], time_us=100.0, flops=8_000_000, nbytes=1000, roofline=0.8)
    assert why(layer, ceilings) == "bound by arithmetic: 80% of the peak (8 MFLOP, 1000 B moved)"
    slow = replace(layer, time_us=1000.0, roofline=0.08)
    assert why(slow, ceilings) == "8% of the peak: 3 input channels (8 MFLOP, 1000 B moved)"
    moved = replace(layer, flops=8000, nbytes=900_000, roofline=0.9)
    assert why(moved, ceilings).startswith("bound by memory")
    assert why(replace(layer, time_us=0.0), None).endswith("by the static estimate")


def test_operators_in_words() -> None:
    assert operator_text(packages.CONV) == "conv 3x3, 3 to 8 channels at 16x16"
    depthwise = packages.CONV.replace("in_channels=3", "in_channels=8").replace("groups=1", "groups=8")
    assert operator_text(depthwise.replace("strides=(1, 1)", "strides=(2, 2)")) == (
        "depthwise 3x3 stride 2, 8 channels at 16x16"
    )
    product = "MatMul(leading=(2, 3), inner=5, columns=7, dtype='float32')"
    assert operator_text(product) == "product 6x5 by 5x7"
    assert operator_text("anything") == "anything"


def test_long_names_keep_their_end() -> None:
    long = f"{'scope/' * 20}conv"
    assert nodes_text([long]).endswith("scope/conv")
    assert len(nodes_text([long])) == 40
    assert nodes_text(["a", "b", "c", "d"]) == "a … d (4 nodes)"


@pytest.mark.parametrize(
    ("scale", "ticks"),
    [
        (Scale(0, 92, 0, 1), [0, 20, 40, 60, 80]),
        (Scale(0.5, 200, 0, 1, logarithmic=True), [1, 10, 100]),
        (Scale(3, 40, 0, 1, logarithmic=True), [5, 10, 20]),
        (Scale(1800, 6100, 0, 1, logarithmic=True), [2000, 3000, 4000, 5000, 6000]),
        (Scale(1, 1, 0, 1), [1]),
    ],
)
def test_ticks_are_round(scale: Scale, ticks: list[float]) -> None:
    assert scale.ticks() == pytest.approx(ticks)
