"use strict";
// One image: a panel for each revision and method, layers over it, and the threshold that makes its box.

const LIVE = { key: "box", group: "maps", title: "box at the threshold", kind: "live", colour: "rev0" };
const KEYS = [..."1234567890abdefghijklmoqrstuvwxyz"];

const shown = { image: null, threshold: null };

// The layers of every revision, each key once; the live box heads the maps.
function layerList(overview, view) {
  const found = new Map();
  for (const { layers } of overview.sets[view.data_set].revisions) for (const layer of layers) found.set(layer.key, layer);
  const list = [...found.values()];
  const first = list.findIndex((layer) => layer.group === "maps");
  if (first >= 0) list.splice(first, 0, LIVE);
  return list;
}

function methodsOf(overview, view) {
  const names = overview.sets[view.data_set].revisions.flatMap((each) => Object.keys(each.methods));
  return [...new Set(names)];
}

// Side by side where methods are chosen; else one panel with the filter's method.
function panelMethods(overview, view) {
  const known = methodsOf(overview, view);
  const side = view.side.split(",").filter((name) => known.includes(name));
  if (side.length) return side;
  return [view.method, overview.sets[view.data_set].measured[0], known[0]].filter((name) => known.includes(name)).slice(0, 1);
}

function showImage(overview, view, image) {
  shown.image = image;
  shown.label = view.class === "" ? image.labels[0] ?? -1 : Number(view.class);
  showAbout(overview, view, image);
  showThreshold(overview, view);
  showSide(overview, view);
  showLayers(overview, view);
  const chosen = panelMethods(overview, view);
  const methods = chosen.length ? chosen : [""];
  const panels = overview.revisions.flatMap((name, rev) => methods.map((method) => panel(overview, view, image, rev, method)));
  const section = document.getElementById("panels");
  section.style.setProperty("--columns", methods.length > 1 ? methods.length : overview.revisions.length);
  section.replaceChildren(...panels);
  moveBoxes(overview, view, view.t);
}

function showAbout(overview, view, image) {
  const set = overview.sets[view.data_set];
  const step = (text, id) => element("a", id ? { href: addressOf({ ...view, id }), textContent: text } : { textContent: text });
  const classes = image.labels.map((label) => element("button", {
    type: "button", textContent: set.classes[label], ariaPressed: String(label === shown.label),
    disabled: image.labels.length < 2 || source !== serverSource,
    onclick: () => go({ class: String(label) }, true),
  }));
  document.getElementById("about").replaceChildren(
    element("nav", {}, step("←", image.previous), element("a", { href: addressOf({ ...view, id: "" }),
      textContent: image.place === null ? "grid" : `${image.place + 1} of ${image.total}` }), step("→", image.next)),
    element("h1", { textContent: image.id }),
    element("p", {}, `${image.split}, ${image.width} × ${image.height}, `, ...classes),
  );
}

function panel(overview, view, image, rev, method) {
  const stage = element("div", { className: "stage" });
  stage.style.aspectRatio = `${image.width} / ${image.height}`;
  const name = overview.revisions.length > 1 ? `${overview.revisions[rev]} ` : "";
  const caption = element("figcaption", {}, element("b", { textContent: name }), `${method} `,
    element("span", { className: "figure" }));
  const figure = element("figure", { className: "panel", data: { rev, method } }, stage, caption);
  if (!image.pictures[rev]) {
    stage.append(element("p", { textContent: "not in this revision" }));
    return figure;
  }
  const lines = outlines(image.width, image.height);
  stage.append(element("img", { src: image.pictures[rev], alt: image.id }));
  const layers = readLayers(view.layers);
  const here = overview.sets[view.data_set].revisions[rev].layers;
  for (const layer of panelLayers(here, layers, method, view)) addLayer(stage, lines, layer, layers, view, rev);
  stage.append(lines);
  return figure;
}

// Side by side, a panel shows its own method's map in place of every other's.
function panelLayers(here, layers, method, view) {
  if (!view.side) return here.filter((layer) => layers.has(layer.key));
  return here.filter((layer) => (layer.group === "maps" ? layer.key === `maps/${method}` : layers.has(layer.key)));
}

function addLayer(stage, lines, layer, layers, view, rev) {
  const opacity = layers.get(layer.key) ?? [...layers].find(([key]) => key.startsWith("maps/"))?.[1] ?? 60;
  if (layer.kind === "boxes") {
    Promise.resolve(source.boxes(view, rev, layer.key)).then(({ boxes }) => {
      outline(lines, boxes, layer.colour, opacity, ([, , , , score]) => `${layer.title} ${percent(score)}`);
    }, (error) => tell(error.message));
    return;
  }
  const address = source.picture(view, rev, layer.key, shown.label);
  if (!address) return;
  const picture = element("img", { className: "layer", alt: "", src: address, onerror: () => picture.remove() });
  picture.dataset.layer = layer.key;
  picture.classList.toggle("smooth", ["maps", "inside the networks"].includes(layer.group));
  picture.style.opacity = opacity / 100;
  stage.append(picture);
}

function showLayers(overview, view) {
  const chosen = readLayers(view.layers);
  const groups = new Map();
  layerList(overview, view).forEach((layer, position) => {
    const id = `layer-${position}`;
    const tick = element("input", { type: "checkbox", id, checked: chosen.has(layer.key), onchange: () => toggle(layer.key) });
    const name = element("label", { htmlFor: id, textContent: layer.title });
    const slide = element("input", { type: "range", min: 0, max: 100, value: chosen.get(layer.key) ?? 100,
      title: "opacity", ariaLabel: `opacity of ${layer.title}`, disabled: !chosen.has(layer.key) });
    slide.oninput = () => fade(layer.key, slide.value);
    slide.onchange = () => go({ layers: layersText(readLayers(readAddress().layers).set(layer.key, Number(slide.value))) }, true);
    const row = element("div", { className: "layer-row", data: { key: layer.key } },
      element("kbd", { textContent: KEYS[position] ?? "" }), tick,
      element("i", { className: `swatch ${layer.colour}` }), name, slide);
    row.onmouseenter = row.onfocusin = () => showOrigin(overview, view, layer);
    if (!groups.has(layer.group)) groups.set(layer.group, []);
    groups.get(layer.group).push(row);
  });
  document.getElementById("layers").replaceChildren(
    ...[...groups].map(([name, rows]) => element("section", {}, element("h2", { textContent: name }), ...rows)));
}

function toggle(key) {
  const layers = readLayers(readAddress().layers);
  if (!layers.delete(key)) layers.set(key, key.startsWith("maps/") ? 60 : 100);
  go({ layers: layersText(layers) }, true);
}

function fade(key, value) {
  for (const picture of document.querySelectorAll("#panels img.layer")) {
    if (picture.dataset.layer === key) picture.style.opacity = value / 100;
  }
}

function showSide(overview, view) {
  const chosen = view.side.split(",");
  const known = methodsOf(overview, view);
  const field = document.getElementById("side");
  field.hidden = known.length < 2;
  field.replaceChildren(field.firstElementChild, ...known.map((name) => {
    const tick = element("input", { type: "checkbox", value: name, checked: chosen.includes(name) });
    tick.onchange = () => {
      go({ side: [...field.querySelectorAll("input:checked")].map((each) => each.value).join(",") }, true);
    };
    return element("label", {}, tick, name);
  }));
}

function showOrigin(overview, view, layer) {
  const key = layer.kind === "live" ? `maps/${panelMethods(overview, view)[0]}` : layer.key;
  const parts = overview.revisions.flatMap((name, rev) => {
    const found = overview.sets[view.data_set].revisions[rev].layers.find((each) => each.key === key);
    if (!found) return [];
    const { stage, params, made, notes } = found.origin;
    return [
      element("h2", { textContent: `${found.title}${overview.revisions.length > 1 ? `, ${name}` : ""}` }),
      element("p", { textContent: `${stage ?? "made by no stage"}${made ? `, ${age(made)}` : ""}` }),
      ...notes.map((text) => element("p", { className: "note", textContent: text })),
      element("pre", { textContent: Object.keys(params).length ? plain(params) : "" }),
    ];
  });
  document.getElementById("origin").replaceChildren(...parts);
}

function age(made) {
  const minutes = (Date.now() / 1000 - made) / 60;
  const [count, unit] = minutes < 90 ? [minutes, "min"] : minutes < 2880 ? [minutes / 60, "h"] : [minutes / 1440, "days"];
  return `${Math.max(0, Math.round(count))} ${unit} ago`;
}

// Parameters as in params.yaml.
function plain(value, indent = "") {
  return Object.entries(value).map(([key, own]) => (own !== null && typeof own === "object" && !Array.isArray(own)
    ? `${indent}${key}:\n${plain(own, `${indent}  `)}`
    : `${indent}${key}: ${JSON.stringify(own)}`)).join("\n");
}
