"use strict";
// The units: filters, order, and a grid of which only the rows in sight are in the page.
const gallery = (() => {
  const grid = byId("grid");
  if (!grid) return null;
  const KINDS = [["", "All"], ["queried", "Queried"], ["control", "Control"], ["lowest", "Lowest scores"]];
  const ORDERS = {
    cycle: ["newest cycle", (a, b) => b.cycle - a.cycle || byKind(a, b) || a.rank - b.rank],
    rank: ["rank", (a, b) => a.rank - b.rank || b.cycle - a.cycle],
    "score-down": ["highest score", (a, b) => last(a.score, b.score) ?? b.score - a.score],
    "score-up": ["lowest score", (a, b) => last(a.score, b.score) ?? a.score - b.score],
    id: ["unit id", (a, b) => collator.compare(a.unit_id, b.unit_id) || a.cycle - b.cycle],
  };
  const collator = new Intl.Collator("en", { numeric: true });
  const GAP = 10;

  // a row per unit from a list per column
  const columns = Object.keys(report.units);
  const units = report.units.unit_id.map((_, i) => Object.fromEntries(columns.map((c) => [c, report.units[c][i]])));
  units.forEach((unit, i) => (unit.index = i));
  let shown = [];

  function byKind(a, b) {
    const place = (u) => KINDS.findIndex(([kind]) => kind === u.kind);
    return place(a) - place(b);
  }

  // a missing score is last in either direction
  function last(a, b) {
    return a === null || b === null ? (a === null) - (b === null) : null;
  }

  function picture(unit, layer) {
    const bit = report.layers.indexOf(layer);
    if (unit.number === null || !(unit.layers & (1 << bit))) return null;
    return `${report.cycles[unit.cycle].folder}/${String(unit.number).padStart(5, "0")}_${layer}${report.suffixes[layer]}`;
  }

  function link(unit) {
    const kind = unit.kind === "queried" ? "" : `&kind=${unit.kind}`;
    return `#unit=${encodeURIComponent(unit.unit_id)}&cycle=${unit.cycle}${kind}`;
  }

  function linked(hash) {
    if (!hash.startsWith("#unit=")) return null;
    const wanted = new URLSearchParams(hash.slice(1));
    const same = units.filter((u) => u.unit_id === wanted.get("unit"));
    const cycle = wanted.get("cycle");
    const kind = wanted.get("kind") ?? "queried";
    return same.find((u) => (cycle === null || String(u.cycle) === cycle) && u.kind === kind) ?? same[0] ?? null;
  }

  // ---- filters
  const form = byId("filters");
  const scores = units.map((u) => u.score).filter((s) => s !== null);
  const lowest = scores.reduce((a, b) => Math.min(a, b), Infinity);
  const highest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const field = Object.fromEntries(
    ["sort", "filter-cycle", "filter-state", "filter-class", "filter-annotator", "filter-text", "score-low", "score-high"].map((id) => [id, byId(id)]),
  );

  function distinct(values) {
    return [...new Set(values)].sort(collator.compare);
  }

  function fill(id, all, values, text = (v) => v) {
    options(field[id], [["", all], ...values.map((v) => [String(v), text(v)])], "");
    field[id].closest("label").hidden = values.length < 2;
  }

  function prepare() {
    const words = Object.entries(ORDERS).map(([key, [name]]) => [key, name]);
    options(field.sort, words, "cycle");
    fill("filter-cycle", "all", [...new Set(units.map((u) => u.cycle))], (c) => `cycle ${c}`);
    fill("filter-state", "all", distinct(units.flatMap((u) => [u.state, ...u.drawings.map(([, state]) => state)])));
    fill("filter-annotator", "all", distinct(units.flatMap((u) => u.drawings.map(([name]) => name))));
    const there = new Set(units.flatMap(classesOf));
    fill("filter-class", "all", report.classes.map((c) => c.name).filter((name) => there.has(name)));
    for (const [kind, name] of KINDS) {
      const label = document.createElement("label");
      const input = Object.assign(document.createElement("input"), { type: "radio", name: "kind", value: kind });
      input.defaultChecked = kind === "";
      const count = document.createElement("small");
      count.textContent = number(kind ? units.filter((u) => u.kind === kind).length : units.length);
      label.append(input, name, count);
      byId("kinds").append(label);
    }
    byId("score-low").closest(".range").hidden = !(highest > lowest);
  }

  function classesOf(unit) {
    return [unit.predicted, unit.truth, ...(unit.classes ?? [])].filter((name) => name !== null);
  }

  function limits() {
    const at = (share) => lowest + ((highest - lowest) * share) / 1000;
    const ends = [Number(field["score-low"].value), Number(field["score-high"].value)].sort((a, b) => a - b);
    // the ends of the sliders are no limits: what has no score is shown as well
    const words = ends.map((end) => number(at(end), 3));
    for (const id of ["score-low", "score-high"]) field[id].setAttribute("aria-valuetext", number(at(Number(field[id].value)), 3));
    return { low: ends[0] > 0 ? at(ends[0]) : null, high: ends[1] < 1000 ? at(ends[1]) : null, words };
  }

  function passes() {
    const kind = form.elements.kind.value;
    const { low, high, words } = limits();
    const [cycle, state, name, annotator] = ["cycle", "state", "class", "annotator"].map((f) => field[`filter-${f}`].value);
    const text = field["filter-text"].value.trim().toLowerCase();
    byId("score-words").textContent = `Score ${words[0]} to ${words[1]}`;
    return (u) =>
      (!kind || u.kind === kind) &&
      (!cycle || String(u.cycle) === cycle) &&
      (!state || u.state === state || u.drawings.some(([, s]) => s === state)) &&
      (!name || classesOf(u).includes(name)) &&
      (!annotator || u.drawings.some(([a]) => a === annotator)) &&
      (low === null || (u.score !== null && u.score >= low)) &&
      (high === null || (u.score !== null && u.score <= high)) &&
      (!text || u.unit_id.toLowerCase().includes(text));
  }

  function refresh() {
    shown = units.filter(passes()).sort(ORDERS[field.sort.value][1]);
    byId("count").textContent = shown.length === units.length
      ? `${number(units.length)} units` : `${number(shown.length)} of ${number(units.length)} units`;
    byId("nothing").hidden = shown.length > 0;
    grid.hidden = shown.length === 0;
    cards.forEach((card) => card.remove());
    cards.clear();
    layout();
  }

  // ---- grid
  const cards = new Map();
  let room = 0;
  let perRow = 1;
  let width = 0;
  let height = 0;

  function padding() {
    return parseFloat(getComputedStyle(grid).paddingLeft);
  }

  function layout() {
    room = grid.clientWidth;
    const inner = room - 2 * padding();
    if (inner <= 0) return;
    perRow = Math.max(2, Math.floor((inner + GAP) / (168 + GAP)));
    width = (inner - GAP * (perRow - 1)) / perRow;
    height = Math.round(width * 0.72) + 64;
    grid.style.height = `${Math.ceil(shown.length / perRow) * (height + GAP)}px`;
    cards.forEach((card, i) => put(card, i));
    render();
  }

  function put(card, i) {
    card.style.width = `${width}px`;
    card.style.height = `${height}px`;
    card.style.transform = `translate(${padding() + (i % perRow) * (width + GAP)}px, ${Math.floor(i / perRow) * (height + GAP)}px)`;
  }

  function element(tag, className, text) {
    const made = document.createElement(tag);
    made.className = className;
    made.textContent = text;
    return made;
  }

  function pair(className, left, right) {
    const line = element("span", className, "");
    line.append(left, element("span", "", right));
    return line;
  }

  function makeCard(unit, i) {
    const card = element("a", "card", "");
    card.href = link(unit);
    card.dataset.place = i;
    const frame = element("span", "frame", "");
    const source = picture(unit, "thumb") ?? picture(unit, "image");
    if (source) {
      const image = document.createElement("img");
      image.alt = "";
      image.decoding = "async";
      image.addEventListener("load", () => image.classList.toggle("small", image.naturalWidth < width / 2));
      image.src = source;
      frame.append(image);
    } else frame.textContent = "no picture";
    const text = element("span", "text", "");
    const name = element("span", "name", unit.unit_id);
    name.title = unit.unit_id;
    const kind = unit.kind === "queried" ? `rank ${number(unit.rank)}` : unit.kind;
    const classes = unit.predicted ? (unit.truth && unit.truth !== unit.predicted ? `${unit.predicted}, not ${unit.truth}` : unit.predicted) : `cycle ${unit.cycle}`;
    text.append(
      name,
      pair("line2", element("span", `badge ${unit.kind}`, kind), number(unit.score)),
      pair("line3", element("span", "", unit.state), classes),
    );
    card.append(frame, text);
    put(card, i);
    return card;
  }

  function render() {
    if (!shown.length || !height) return;
    const top = -grid.getBoundingClientRect().top;
    const ahead = window.innerHeight / 2;
    const first = Math.max(0, Math.floor((top - ahead) / (height + GAP))) * perRow;
    const end = Math.min(shown.length, Math.ceil((top + window.innerHeight + ahead) / (height + GAP)) * perRow);
    for (const [i, card] of cards) {
      if (i < first || i >= end) {
        // what has the focus stays, or the keyboard would lose its place
        if (card === document.activeElement) continue;
        card.remove();
        cards.delete(i);
      }
    }
    let before = null;
    for (let i = first; i < end; i++) {
      let card = cards.get(i);
      if (!card) {
        card = makeCard(shown[i], i);
        cards.set(i, card);
        // in the order of the units, which is the order of the Tab key
        if (before) before.after(card);
        else grid.prepend(card);
      }
      before = card;
    }
  }

  function focus(i) {
    if (i < 0 || i >= shown.length) return;
    const row = grid.getBoundingClientRect().top + window.scrollY + Math.floor(i / perRow) * (height + GAP);
    const bar = getComputedStyle(form).position === "sticky" ? form.offsetHeight : 0;
    const up = row - bar - GAP < window.scrollY;
    const down = row + height > window.scrollY + window.innerHeight;
    if (up || down) window.scrollTo({ top: up ? row - bar - GAP : row + height + GAP - window.innerHeight, behavior: "instant" });
    render();
    cards.get(i)?.focus({ preventScroll: true });
  }

  let asked = false;
  function soon() {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      render();
    });
  }

  const typed = (target) => target.matches("input:not([type=radio], [type=checkbox]), select, textarea");

  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]") || event.ctrlKey || event.metaKey || event.altKey || typed(event.target)) return;
    const card = event.target.closest(".card");
    const step = { j: 1, k: -1 }[event.key] ?? (card ? { ArrowRight: 1, ArrowLeft: -1, ArrowDown: perRow, ArrowUp: -perRow }[event.key] : undefined);
    const end = card ? { Home: 0, End: shown.length - 1 }[event.key] : undefined;
    if (step === undefined && end === undefined) return;
    event.preventDefault();
    focus(end ?? (card ? Number(card.dataset.place) + step : 0));
  });
  window.addEventListener("scroll", soon, { passive: true });
  new ResizeObserver(() => grid.clientWidth !== room && requestAnimationFrame(layout)).observe(grid);
  form.addEventListener("input", refresh);
  form.addEventListener("submit", (event) => event.preventDefault());
  // the fields have their first values only after the event
  form.addEventListener("reset", () => setTimeout(refresh));
  byId("nothing-reset").addEventListener("click", () => form.reset());
  byId("more-filters").addEventListener("click", () => {
    const more = byId("more");
    more.hidden = !more.hidden;
    byId("more-filters").setAttribute("aria-expanded", String(!more.hidden));
  });
  byId("show-waiting")?.addEventListener("click", () => {
    form.reset();
    field["filter-state"].value = "waiting";
    setTimeout(() => {
      field["filter-state"].value = "waiting";
      if (byId("more").hidden) byId("more-filters").click();
      refresh();
      byId("gallery").scrollIntoView();
    });
  });

  prepare();
  if (matchMedia("(min-width: 60rem) and (min-height: 45rem)").matches) byId("more-filters").click();
  refresh();
  return { units, picture, link, linked, focus, shown: () => shown };
})();
