"use strict";
(() => {
  const one = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const data = JSON.parse(one("#lint-data").textContent);
  const OK = data.verdicts.length - 1;
  const scroller = one(".scroller"), overview = one(".overview"), card = one(".node-card");
  const state = { target: 0, node: null, query: "", hidden: new Set() };

  const figures = all("figure.graph").map((figure) => {
    const svg = one("svg", figure), boxes = [];
    const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
    const places = [], edges = [];
    for (const box of all(".n[data-i]", svg)) {
      const i = Number(box.dataset.i);
      boxes[i] = box;
      const [x, y] = box.getAttribute("transform").match(/-?\d+/g).map(Number);
      const rect = one("rect", box);
      places[i] = { x: x + Number(rect.getAttribute("width")) / 2, y: y + Number(rect.getAttribute("height")) / 2 };
    }
    for (const edge of all(".e", svg)) edges[Number(edge.dataset.i)] = edge;
    return { figure, svg, boxes, edges, places, width, height, zoom: 0 };
  });
  for (const graph of data.graphs) {
    graph.readers = graph.nodes.map(() => []);
    graph.reads.forEach((row, i) => row.forEach((producer) => graph.readers[producer].push(i)));
    graph.words = graph.nodes.map(([name, op]) => `${name} ${op}`.toLowerCase());
  }
  const findings = all(".finding").map((item) => ({
    item,
    target: Number(item.dataset.target),
    verdict: item.dataset.verdict,
    nodes: item.dataset.nodes ? item.dataset.nodes.split(" ").map(Number) : [],
    words: item.textContent.toLowerCase(),
  }));

  const target = () => data.targets[state.target];
  const graph = () => data.graphs[target().graph];
  const figure = () => figures[target().graph];
  const verdict = (i) => data.verdicts[Number(target().verdicts[i])];
  const matches = (i) => !state.query || graph().words[i].includes(state.query);

  function chooseTarget(number) {
    const before = target().graph, name = state.node === null ? null : graph().nodes[state.node][0];
    state.target = number;
    for (const input of all("input[name=target]")) input.checked = Number(input.value) === number;
    for (const part of all("[data-target]")) part.hidden = Number(part.dataset.target) !== number;
    all("#summary .card").forEach((each, i) => each.classList.toggle("chosen", i === number));
    figures.forEach((each, i) => { each.figure.hidden = i !== target().graph; });
    if (before !== target().graph && name !== null) {
      const same = graph().nodes.findIndex((node) => node[0] === name);
      state.node = same < 0 ? null : same;
    }
    if (!figure().zoom) {
      zoomTo("fit");
      if (figure().zoom < 0.75) zoomTo(0.75 / figure().zoom);
      if (graph().nodes.length) centre(0);
    }
    const heat = target().heat;
    figure().boxes.forEach((box, i) => box.setAttribute("class", `n ${verdict(i)}${heat ? ` h${heat[i]}` : ""}`));
    for (const input of all("input[name=verdict]")) {
      const count = findings.filter((f) => f.target === number && f.verdict === input.value).length;
      one(".count", input.parentNode).textContent = count;
      input.parentNode.classList.toggle("none", count === 0);
    }
    select(state.node, false);
  }

  function filter() {
    let shown = 0, nodes = 0;
    const places = new Set();
    for (const finding of findings) {
      const fits =
        finding.target === state.target &&
        !state.hidden.has(finding.verdict) &&
        (state.node === null || finding.nodes.includes(state.node)) &&
        (!state.query || finding.words.includes(state.query) || finding.nodes.some(matches));
      finding.item.hidden = !fits;
      shown += fits;
      if (fits) finding.nodes.forEach((i) => places.add(i));
    }
    figure().boxes.forEach((box, i) => {
      const fits = matches(i) && !state.hidden.has(verdict(i));
      nodes += fits;
      box.classList.toggle("dim", !fits);
    });
    const words = [`${shown} ${shown === 1 ? "finding" : "findings"}`];
    if (state.node !== null) words.push("of the selected node");
    else if (places.size) words.push(`at ${places.size} ${places.size === 1 ? "node" : "nodes"}`);
    if (state.query) words.push(`, ${nodes} ${nodes === 1 ? "node matches" : "nodes match"} “${state.query}”`);
    if (target().heat && !findings.length) words.splice(0, words.length - (state.query ? 1 : 0));
    one(".found").textContent = words.join(" ").replace(" ,", ",").replace(/^, /, "");
    drawOverview();
  }

  function select(i, scroll = true) {
    const { boxes, edges } = figure();
    for (const box of all(".n.selected")) box.classList.remove("selected");
    for (const edge of all(".e.near")) edge.classList.remove("near");
    state.node = i;
    card.hidden = i === null;
    if (i !== null) {
      boxes[i].classList.add("selected");
      for (const source of [i, ...graph().reads[i]]) if (edges[source]) edges[source].classList.add("near");
      fillCard(i);
      if (scroll) centre(i);
    }
    filter();
  }

  function fillCard(i) {
    const [name, op, shape, macs, bytes] = graph().nodes[i];
    const micros = target().micros[i], taken = target().taken[i] === "1";
    const total = target().micros.reduce((sum, each) => sum + (each ?? 0), 0);
    const rows = [
      ["operator", op], ["output", shape], ["multiply-adds", macs < 0 ? "" : macs.toLocaleString("en")],
      ["bytes moved", bytes < 0 ? "" : bytes.toLocaleString("en")],
      [data.time, micros === null ? "" : `${micros.toLocaleString("en")} µs, ${(100 * micros / total || 0).toFixed(1)} %`],
      ["verdict", target().heat && verdict(i) === "ok" ? "" : (verdict(i) === "ok" ? "no findings" : verdict(i)) + (taken ? "" : ", not run by the target")],
    ];
    card.replaceChildren(make("h3", name), make("button", "×", { type: "button", class: "close", "aria-label": "show all" }));
    const list = make("dl", "");
    for (const [label, value] of rows) if (value) list.append(make("dt", label), make("dd", value));
    for (const [label, others] of [["reads", graph().reads[i]], ["read by", graph().readers[i]]]) {
      if (!others.length) continue;
      const places = make("dd", "");
      for (const other of others.slice(0, 12)) {
        places.append(make("button", graph().nodes[other][0], { type: "button", class: "node", "data-i": other }), " ");
      }
      if (others.length > 12) places.append(`and ${others.length - 12} more`);
      list.append(make("dt", label), places);
    }
    for (const [label, text, where, i2] of target().rows?.[i] ?? []) {
      const value = make("dd", where === undefined ? text : "");
      if (where !== undefined) value.append(make("button", text, { type: "button", class: "node", "data-where": where, "data-i": i2 }));
      list.append(make("dt", label), value);
    }
    card.append(list);
  }

  function make(tag, text, attributes = {}) {
    const made = document.createElement(tag);
    made.textContent = text;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }

  function zoomTo(how) {
    const it = figure(), room = scroller.clientWidth - 4;
    const middle = (scroller.scrollTop + scroller.clientHeight / 2) / (it.zoom || 1);
    it.zoom = how === "fit" ? Math.max(0.3, Math.min(1, room / it.width)) : Math.max(0.1, Math.min(3, it.zoom * how));
    it.svg.setAttribute("width", Math.round(it.width * it.zoom));
    it.svg.setAttribute("height", Math.round(it.height * it.zoom));
    scroller.scrollTop = middle * it.zoom - scroller.clientHeight / 2;
    scroller.parentNode.style.maxHeight = `${Math.max(360, it.height * it.zoom + 20)}px`;
    drawOverview();
  }

  function centre(i) {
    const { places, zoom, svg } = figure();
    scroller.scrollTop = places[i].y * zoom - scroller.clientHeight / 2;
    scroller.scrollLeft = svg.getBoundingClientRect().left - scroller.getBoundingClientRect().left +
      scroller.scrollLeft + places[i].x * zoom - scroller.clientWidth / 2;
  }

  function drawOverview() {
    const height = overview.clientHeight, pen = overview.getContext("2d"), it = figure();
    const style = getComputedStyle(document.documentElement);
    const colours = ["--wrong", "--bad", "--warn", "--slow", "--edge", "--line"].map((name) => style.getPropertyValue(name));
    overview.height = height;
    pen.clearRect(0, 0, 14, height);
    const order = it.places.map((_, i) => i).sort((a, b) => Number(target().verdicts[b]) - Number(target().verdicts[a]));
    for (const i of order) {
      const kind = Number(target().verdicts[i]), shown = !it.boxes[i].classList.contains("dim");
      pen.fillStyle = colours[shown ? kind : OK];
      pen.fillRect(2, (it.places[i].y / it.height) * height - 1, 10, kind < 4 && shown ? 3 : 1.5);
    }
    const scale = height / (it.height * it.zoom);
    pen.strokeStyle = style.getPropertyValue("--accent");
    pen.lineWidth = 2;
    pen.strokeRect(1, scroller.scrollTop * scale + 1, 12, Math.min(height, scroller.clientHeight * scale) - 2);
  }

  const KEYS = ["ArrowDown", "ArrowUp", "ArrowLeft", "ArrowRight", "Home", "End", "n", "p"];

  function step(key) {
    const count = graph().nodes.length, i = state.node;
    if (!KEYS.includes(key) || !count) return null;
    if (i === null) return key === "End" || key === "p" ? count - 1 : 0;
    const { places } = figure();
    const beside = (sign) => {
      const row = places.map((p, n) => [p.x, n]).filter(([, n]) => places[n].y === places[i].y).sort((a, b) => a[0] - b[0]);
      const at = row.findIndex(([, n]) => n === i) + sign;
      return row[at] ? row[at][1] : i;
    };
    const finding = (sign) => {
      for (let n = i + sign; n >= 0 && n < count; n += sign) if (Number(target().verdicts[n]) < OK - 1) return n;
      return i;
    };
    switch (key) {
      case "ArrowDown": return graph().readers[i][0] ?? i;
      case "ArrowUp": return graph().reads[i][0] ?? i;
      case "ArrowLeft": return beside(-1);
      case "ArrowRight": return beside(1);
      case "Home": return 0;
      case "End": return count - 1;
      case "n": return finding(1);
      default: return finding(-1);
    }
  }

  document.addEventListener("click", (event) => {
    const node = event.target.closest(".n[data-i], button.node"), choose = event.target.closest("[data-choose]");
    const zoom = event.target.closest("[data-zoom]");
    if (choose) {
      chooseTarget(Number(choose.dataset.choose));
      one("#findings").scrollIntoView();
    } else if (zoom) {
      zoomTo(zoom.dataset.zoom === "fit" ? "fit" : Number(zoom.dataset.zoom));
    } else if (event.target.closest(".close")) {
      select(null);
      scroller.focus();
    } else if (node) {
      if (node.dataset.where !== undefined) chooseTarget(Number(node.dataset.where));
      const i = Number(node.dataset.i), inGraph = node.closest("svg");
      select(inGraph && state.node === i ? null : i, !inGraph);
      if (!node.closest(".explorer")) one(".explorer").scrollIntoView();
      else if (inGraph && !card.hidden) card.scrollIntoView({ block: "nearest" });
    }
  });
  scroller.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") select(null);
    const next = step(event.key);
    if (next === null) return;
    event.preventDefault();
    select(next);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement.tagName !== "INPUT") {
      event.preventDefault();
      one("#search").focus();
    }
  });
  one("#search").addEventListener("input", (event) => {
    state.query = event.target.value.trim().toLowerCase();
    filter();
  });
  one("#search").addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    const count = graph().nodes.length, from = state.node === null ? -1 : state.node;
    for (let n = 1; n <= count; n += 1) {
      const i = (from + n + count) % count;
      if (matches(i)) { select(i); break; }
    }
  });
  one(".toolbar").addEventListener("submit", (event) => event.preventDefault());
  for (const input of all("input[name=target]")) input.addEventListener("change", () => chooseTarget(Number(input.value)));
  for (const input of all("input[name=verdict]")) {
    input.addEventListener("change", () => {
      if (input.checked) state.hidden.delete(input.value);
      else state.hidden.add(input.value);
      filter();
    });
  }
  overview.addEventListener("click", (event) => {
    scroller.scrollTop = (event.offsetY / overview.clientHeight) * figure().height * figure().zoom - scroller.clientHeight / 2;
  });
  scroller.addEventListener("scroll", () => requestAnimationFrame(drawOverview), { passive: true });
  addEventListener("resize", drawOverview);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawOverview);

  chooseTarget(data.start ? data.start[0] : 0);
  if (data.start) select(data.start[1]);
})();
