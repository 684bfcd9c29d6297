"use strict";
// The view is what stands after # in the address: filter, image, layers, threshold. Everything else follows from it.

const FILTER = ["data_set", "split", "label", "method", "outcome", "low", "high", "q", "sort"];
const DEFAULTS = {
  data_set: "", split: "", label: "", method: "", outcome: "", low: "0", high: "1", q: "", sort: "worst", page: "0",
  id: "", layers: "truth,box", side: "", t: "", class: "",
};

function readAddress() {
  const words = new URLSearchParams(location.hash.slice(1));
  const view = {};
  for (const name of Object.keys(DEFAULTS)) view[name] = words.has(name) ? words.get(name) : DEFAULTS[name];
  return view;
}

function addressOf(view) {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(DEFAULTS)) if (view[name] !== value) words.set(name, view[name]);
  return "#" + words.toString();
}

// A new entry in the browser's history for another image, page or filter; none for layers and thresholds.
function go(changes, keep = false) {
  const address = addressOf({ ...readAddress(), ...changes });
  if (keep) location.replace(address);
  else location.hash = address;
}

// Layers in the address: keys with an opacity in percent where it is not 100, such as "truth,maps/ddt:60".
function readLayers(text) {
  return new Map(text.split(",").filter(Boolean).map((word) => {
    const [, key, percent] = word.match(/^(.*?)(?::(\d+))?$/);
    return [key, Math.min(100, Number(percent ?? 100))];
  }));
}

function layersText(layers) {
  return [...layers].map(([key, percent]) => (percent === 100 ? key : `${key}:${percent}`)).join(",");
}

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "data") Object.assign(made.dataset, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

// Boxes as outlines over a picture of width x height pixels; a sixth number is a class, a fifth a score.
function outlines(width, height) {
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
  drawing.setAttribute("preserveAspectRatio", "none");
  return drawing;
}

function outline(drawing, boxes, colour, opacity = 100, tell = () => "") {
  for (const box of boxes) {
    const shape = document.createElementNS(SVG, "rect");
    const [x0, y0, x1, y1] = box;
    const places = { x: x0, y: y0, width: Math.max(0, x1 - x0), height: Math.max(0, y1 - y0) };
    for (const [name, value] of Object.entries(places)) shape.setAttribute(name, value);
    shape.setAttribute("class", colour);
    shape.style.opacity = opacity / 100;
    const title = document.createElementNS(SVG, "title");
    title.textContent = tell(box);
    shape.append(title);
    drawing.append(shape);
  }
}

const percent = (iou) => (iou === null || iou === undefined ? "–" : iou.toFixed(2));
