"use strict";
// The learning curve and the histogram of scores, drawn into the page as SVG.
(() => {
  const SVG = "http://www.w3.org/2000/svg";

  function add(parent, name, attributes = {}, text = null) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== null) element.textContent = text;
    parent.append(element);
    return element;
  }

  // round numbers between two ends, about `count` of them
  function ticks(low, high, count) {
    // closer than numbers can be counted: no step would lead from one end to the other
    if (!(high - low > 1e-9 * Math.max(Math.abs(low), Math.abs(high)))) return [low];
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= rough * 0.999);
    const found = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(Number((i * step).toPrecision(12)));
    return found;
  }

  function short(value) {
    const size = Math.abs(value);
    if (size >= 1e9) return `${Number((value / 1e9).toPrecision(4))}G`;
    if (size >= 1e6) return `${Number((value / 1e6).toPrecision(4))}M`;
    if (size >= 1e4) return `${Number((value / 1e3).toPrecision(4))}k`;
    return number(value);
  }

  function frame(place, height, x, y, xTitle, yTitle, whole) {
    const width = Math.max(280, place.clientWidth);
    const margin = { left: 58, right: 18, top: 30, bottom: 46 };
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const scaleX = (v) => margin.left + ((v - x[0]) / (x[1] - x[0] || 1)) * (width - margin.left - margin.right);
    const scaleY = (v) => height - margin.bottom - ((v - y[0]) / (y[1] - y[0] || 1)) * (height - margin.top - margin.bottom);
    const grid = add(svg, "g", { class: "grid" });
    const levels = ticks(y[0], y[1], 5);
    for (const v of whole.y ? levels.filter(Number.isInteger) : levels) {
      add(grid, "line", { x1: margin.left, x2: width - margin.right, y1: scaleY(v), y2: scaleY(v) });
      add(grid, "text", { x: margin.left - 8, y: scaleY(v) + 4, "text-anchor": "end" }, short(v));
    }
    const marks = ticks(x[0], x[1], Math.max(4, Math.floor(width / 110)));
    for (const v of whole.x ? marks.filter(Number.isInteger) : marks)
      add(grid, "text", { x: scaleX(v), y: height - margin.bottom + 19, "text-anchor": "middle" }, short(v));
    add(svg, "line", { class: "axis", x1: margin.left, x2: width - margin.right, y1: height - margin.bottom, y2: height - margin.bottom });
    add(svg, "text", { x: (margin.left + width - margin.right) / 2, y: height - 6, "text-anchor": "middle" }, xTitle);
    add(svg, "text", { x: 2, y: 14 }, yTitle);
    place.replaceChildren(svg);
    return { svg, scaleX, scaleY, width };
  }

  function redrawn(place, draw) {
    let before = place.clientWidth;
    new ResizeObserver(() => {
      if (place.clientWidth !== before) {
        before = place.clientWidth;
        requestAnimationFrame(draw);
      }
    }).observe(place);
    draw();
  }

  function drawCurve() {
    const { columns, costs } = report.curve;
    const metric = byId("curve-metric").value;
    const cost = byId("curve-cost").value;
    const costName = costs.find(([c]) => c === cost)[1];
    const points = columns[metric]
      .map((y, i) => ({ x: columns[cost][i], y, cycle: columns.cycle[i] }))
      .filter((p) => p.x !== null && p.y !== null)
      .sort((a, b) => a.x - b.x);
    const place = byId("curve-chart");
    if (!points.length) {
      place.replaceChildren("No cycle has this score.");
      return;
    }
    const xs = points.map((p) => p.x);
    const ys = points.map((p) => p.y);
    const padX = (Math.max(...xs) - Math.min(...xs)) * 0.04 || 0.5;
    const padY = (Math.max(...ys) - Math.min(...ys)) * 0.12 || Math.abs(ys[0]) * 0.1 || 0.1;
    const low = Math.min(...ys) - padY;
    const better = report.curve.lower.includes(metric) ? ", lower is better" : "";
    const { svg, scaleX, scaleY } = frame(
      place, 320, [Math.min(...xs) - padX, Math.max(...xs) + padX],
      [Math.min(...ys) >= 0 ? Math.max(0, low) : low, Math.max(...ys) + padY], costName, report.curve.names[report.curve.metrics.indexOf(metric)] + better,
      { x: xs.every(Number.isInteger), y: false },
    );
    add(svg, "path", { class: "line", d: points.map((p, i) => `${i ? "L" : "M"}${scaleX(p.x)} ${scaleY(p.y)}`).join("") });
    points.forEach((p, i) => {
      const words = `cycle ${p.cycle}: ${number(p.y)} at ${number(p.x)} ${costName}`;
      const group = add(svg, "g", { tabindex: 0, role: "img", "aria-label": words });
      add(group, "title", {}, words);
      add(group, "circle", { class: "dot", cx: scaleX(p.x), cy: scaleY(p.y), r: 5 });
      if (points.length <= 8 || i === 0 || i === points.length - 1)
        add(group, "text", { class: "value", x: scaleX(p.x), y: scaleY(p.y) - 12, "text-anchor": "middle" }, Math.abs(p.y) < 10 ? p.y.toFixed(3) : number(p.y));
    });
  }

  function drawHistogram() {
    const h = report.histograms[byId("histogram-cycle").selectedIndex];
    const high = h.high > h.low ? h.high : h.low + 1e-9;
    const tallest = Math.max(...h.pool.map((n, i) => n + h.queried[i]));
    const place = byId("histogram-chart");
    const { svg, scaleX, scaleY } = frame(place, 260, [h.low, high], [0, tallest * 1.05], "score", "units", { x: false, y: true });
    const bins = h.pool.length;
    h.pool.forEach((pool, i) => {
      const from = h.low + ((high - h.low) * i) / bins;
      const to = h.low + ((high - h.low) * (i + 1)) / bins;
      const left = scaleX(from) + 0.75;
      const width = Math.max(1, scaleX(to) - scaleX(from) - 1.5);
      if (!pool && !h.queried[i]) return;
      const words = `${number(from)} to ${number(to)}: ${h.queried[i]} queried, ${pool} left`;
      const group = add(svg, "g", { role: "img", "aria-label": words });
      add(group, "title", {}, words);
      if (pool) add(group, "rect", { class: "pool", x: left, width, y: scaleY(pool), height: scaleY(0) - scaleY(pool) });
      if (h.queried[i]) {
        const top = scaleY(pool + h.queried[i]);
        add(group, "rect", { class: "queried", x: left, width, y: top, height: scaleY(pool) - top });
      }
    });
    const cut = byId("histogram-cut");
    cut.textContent = "";
    if (h.cut !== null) {
      add(svg, "line", { class: "cut", x1: scaleX(h.cut), x2: scaleX(h.cut), y1: 22, y2: scaleY(0) });
      const atRight = h.cut > (h.low + high) / 2;
      add(svg, "text", { class: "value", x: scaleX(h.cut) + (atRight ? -7 : 7), y: 32, "text-anchor": atRight ? "end" : "start" }, `cut ${number(h.cut)}`);
      cut.textContent = `cut: the lowest queried score, ${number(h.cut)}` +
        (h.above ? `; ${number(h.above)} with a higher one were left` : "");
    }
  }

  for (const swatch of document.querySelectorAll("[data-colour]")) swatch.style.background = swatch.dataset.colour;
  if (report.curve) {
    const { metrics, names, costs, monitor } = report.curve;
    options(byId("curve-metric"), metrics.map((m, i) => [m, names[i]]), monitor);
    options(byId("curve-cost"), costs, costs[0][0]);
    for (const id of ["curve-metric", "curve-cost"]) byId(id).addEventListener("change", drawCurve);
    redrawn(byId("curve-chart"), drawCurve);
  }
  if (report.histograms.length) {
    const last = report.histograms.at(-1).cycle;
    options(byId("histogram-cycle"), report.histograms.map((h) => [String(h.cycle), `cycle ${h.cycle}`]), String(last));
    byId("histogram-cycle").addEventListener("change", drawHistogram);
    redrawn(byId("histogram-chart"), drawHistogram);
  }
})();
