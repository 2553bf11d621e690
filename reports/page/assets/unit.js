"use strict";
// The opened unit: layers on top of each other, a magnifier, and its neighbours by keys.
(() => {
  const dialog = byId("unit");
  if (!gallery || !dialog) return;
  const LAYERS = [
    { name: "image", words: "Image", on: true, opacity: 100 },
    { name: "prediction", words: "Prediction", on: true, opacity: 45 },
    { name: "uncertainty", words: "Uncertainty", on: false, opacity: 75 },
    { name: "truth", words: "Truth", on: false, opacity: 60 },
    { name: "region", words: "Outline of the unit", on: true, opacity: 100 },
  ];
  const STEP = 24;
  const stage = byId("stage");
  const layers = byId("layers");
  const lens = byId("lens");
  const inLens = layers.cloneNode(false);
  inLens.removeAttribute("id");
  lens.append(inLens);
  let unit = null;
  let at = { x: 0.5, y: 0.5 };
  let above = false;

  // ---- layers
  for (const [i, layer] of LAYERS.entries()) {
    const row = document.createElement("div");
    row.className = "layer";
    const label = document.createElement("label");
    layer.box = Object.assign(document.createElement("input"), { type: "checkbox", checked: layer.on, id: `show-${layer.name}` });
    layer.title = document.createElement("span");
    layer.title.textContent = layer.words;
    const key = document.createElement("kbd");
    key.textContent = i + 1;
    label.append(layer.box, layer.title, key);
    layer.slider = Object.assign(document.createElement("input"), { type: "range", min: 0, max: 100, value: layer.opacity, id: `opacity-${layer.name}` });
    layer.slider.setAttribute("aria-label", `Opacity of the layer ${layer.words}`);
    row.append(label, layer.slider);
    layer.row = row;
    byId("controls").append(row);
    layer.box.addEventListener("change", blend);
    layer.slider.addEventListener("input", () => {
      layer.box.checked = true;
      blend();
    });
    layer.images = [layers, inLens].map((place) => {
      const image = document.createElement("img");
      image.alt = "";
      image.className = layer.name;
      place.append(image);
      return image;
    });
  }

  function blend() {
    for (const layer of LAYERS) {
      for (const image of layer.images) {
        image.hidden = !layer.box.checked || layer.source === null;
        image.style.opacity = Number(layer.slider.value) / 100;
      }
      layer.slider.disabled = layer.box.disabled = layer.source === null;
    }
  }

  function load() {
    const base = LAYERS[0];
    for (const layer of LAYERS) {
      layer.source = gallery.picture(unit, layer.name) ?? (layer === base ? gallery.picture(unit, "thumb") : null);
      layer.row.hidden = layer.source === null && layer.name !== "image";
      for (const image of layer.images) {
        if (layer.source) image.src = layer.source;
        else image.removeAttribute("src");
      }
    }
    base.images[0].alt = `Picture of ${unit.unit_id}`;
    stage.hidden = base.source === null;
    byId("no-picture").hidden = base.source !== null;
    blend();
  }

  LAYERS[0].images[0].addEventListener("load", () => {
    const { naturalWidth, naturalHeight } = LAYERS[0].images[0];
    stage.style.setProperty("--ratio", naturalWidth / naturalHeight);
    // few pixels are shown as the squares that they are
    layers.classList.toggle("coarse", naturalWidth * 2 < stage.clientWidth);
    look();
  });

  // ---- what is known of it
  function fact(name, value) {
    if (value === null || value === undefined || value === "") return;
    const term = document.createElement("dt");
    const words = document.createElement("dd");
    term.textContent = name;
    words.textContent = value;
    byId("about").append(term, words);
  }

  function describe() {
    const cycle = report.cycles[unit.cycle];
    byId("unit-title").textContent = unit.unit_id;
    byId("about").replaceChildren();
    const kinds = { queried: "queried", control: "control: drawn at random from the units that were not queried", lowest: "among the lowest scores" };
    fact("kind", kinds[unit.kind]);
    fact("cycle", String(unit.cycle));
    fact("score", number(unit.score, 6));
    fact("rank", number(unit.rank));
    fact("predicted", unit.predicted);
    fact("truth", unit.truth);
    fact("state", unit.labelled === null ? unit.state : `${unit.state} in cycle ${unit.labelled}`);
    for (const [annotator, state] of unit.drawings) fact("annotator", `${annotator}: ${state}`);
    fact("image", unit.image_id);
    if (unit.box) fact("place", `rows ${unit.box[0]} to ${unit.box[0] + unit.box[2] - 1}, columns ${unit.box[1]} to ${unit.box[1] + unit.box[3] - 1}`);
    if (unit.classes && !unit.predicted) fact("classes", unit.classes.join(", "));
    LAYERS[3].title.textContent = cycle.truth_name === "annotation" ? "Annotation" : "Truth";
    byId("values").hidden = LAYERS[2].source === null || cycle.max_value === null;
    byId("values-name").textContent = cycle.values_name ?? "Uncertainty";
    byId("values-max").textContent = number(cycle.max_value, 3);
    byId("legend").hidden = LAYERS[1].source === null && LAYERS[3].source === null;
    byId("permalink").href = gallery.link(unit);
  }

  for (const { name, colour } of report.classes) {
    if (!colour) continue;
    const item = document.createElement("li");
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = colour;
    item.append(swatch, name);
    byId("legend-classes").append(item);
  }

  // ---- opening, neighbours, closing
  function place() {
    return gallery.shown().indexOf(unit);
  }

  function show(found) {
    unit = found;
    load();
    describe();
    const here = place();
    const all = gallery.shown().length;
    byId("place").textContent = here < 0 ? "not among the filtered units" : `${number(here + 1)} of ${number(all)}`;
    byId("previous").disabled = here <= 0;
    byId("next").disabled = here >= all - 1;
    if (!dialog.open) {
      dialog.showModal();
      // and not its first button, which would look chosen
      dialog.focus();
    }
    for (const next of [gallery.shown()[here + 1], gallery.shown()[here - 1]]) {
      const source = next && gallery.picture(next, "image");
      if (source) new Image().src = source;
    }
  }

  function step(by) {
    const next = gallery.shown()[place() + by];
    if (!next) return;
    history.replaceState(null, "", gallery.link(next));
    show(next);
  }

  function follow() {
    const found = gallery.linked(location.hash);
    if (found) show(found);
    else if (dialog.open) dialog.close();
  }

  dialog.addEventListener("close", () => {
    if (location.hash.startsWith("#unit=")) history.replaceState(null, "", location.pathname + location.search);
    const here = place();
    if (here >= 0) gallery.focus(here);
  });
  dialog.addEventListener("click", (event) => {
    // the dialog itself is hit only outside of what is in it
    if (event.target === dialog) dialog.close();
  });
  byId("close").addEventListener("click", () => dialog.close());
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  window.addEventListener("hashchange", follow);

  // ---- magnifier
  const magnify = byId("magnify");

  function look() {
    lens.hidden = !magnify.checked || stage.hidden;
    stage.classList.toggle("magnified", magnify.checked);
    if (lens.hidden) return;
    const power = Number(byId("power").value);
    const { clientWidth: width, clientHeight: height } = stage;
    const [half, tall] = [lens.offsetWidth / 2, lens.offsetHeight / 2];
    lens.style.left = `${at.x * width - half}px`;
    // a finger would hide what it points at
    lens.style.top = `${at.y * height - tall * (above ? 2.3 : 1)}px`;
    Object.assign(inLens.style, {
      width: `${width * power}px`, height: `${height * power}px`,
      left: `${half - 3 - at.x * width * power}px`, top: `${tall - 3 - at.y * height * power}px`,
    });
  }

  function move(x, y) {
    at = { x: Math.min(1, Math.max(0, x)), y: Math.min(1, Math.max(0, y)) };
    look();
  }

  stage.addEventListener("pointermove", (event) => {
    if (!magnify.checked) return;
    const box = stage.getBoundingClientRect();
    above = event.pointerType === "touch";
    move((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  });
  magnify.addEventListener("change", look);
  byId("power").addEventListener("change", look);
  new ResizeObserver(look).observe(stage);

  // ---- a finger that moves sideways
  let touched = null;
  byId("light").addEventListener("pointerdown", (event) => (touched = event.pointerType === "touch" && !magnify.checked ? event : null));
  byId("light").addEventListener("pointerup", (event) => {
    if (!touched) return;
    const [x, y] = [event.clientX - touched.clientX, event.clientY - touched.clientY];
    if (Math.abs(x) > 50 && Math.abs(x) > 2 * Math.abs(y)) step(x < 0 ? 1 : -1);
    touched = null;
  });

  // ---- keys
  dialog.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrows = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
    const arrow = arrows[event.key];
    const inField = event.target.matches("input[type=range], select");
    if (arrow && event.shiftKey && magnify.checked) {
      const { clientWidth: width, clientHeight: height } = stage;
      move(at.x + (arrow[0] * STEP) / width, at.y + (arrow[1] * STEP) / height);
    } else if (event.key === "j" || (event.key === "ArrowRight" && !inField)) step(1);
    else if (event.key === "k" || (event.key === "ArrowLeft" && !inField)) step(-1);
    else if (event.key === "m") magnify.click();
    else if (/^[1-5]$/.test(event.key)) LAYERS[Number(event.key) - 1].box.click();
    else return;
    event.preventDefault();
  });

  follow();
})();
