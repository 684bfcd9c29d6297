"use strict";
// From the address to the page; the threshold; keys.

let overview = null;
let turn = 0;

async function render() {
  const own = ++turn;
  const view = readAddress();
  view.data_set ||= Object.keys(overview.sets)[0];
  tell("");
  try {
    if (!overview.sets[view.data_set]) throw new Error(`no data set '${view.data_set}'`);
    fillFilter(overview, view);
    const found = await (view.id ? source.image(view) : source.page(view));
    if (own !== turn) return; // the address has changed since
    (view.id ? showImage : showGrid)(overview, view, found);
  } catch (error) {
    if (own === turn) tell(error.message);
    return;
  }
  document.getElementById("grid-view").hidden = view.id !== "";
  document.getElementById("image-view").hidden = view.id === "";
  document.title = view.id ? `${view.id}: wsol inspect` : "wsol inspect";
}

function tell(text) {
  const line = document.getElementById("message");
  line.textContent = text;
  line.hidden = text === "";
}

// The slider has a stop for each threshold; where the address names none, each method stands at its calibrated one.
function showThreshold(overview, view) {
  const slider = document.getElementById("slider");
  slider.max = overview.thresholds.length - 1;
  slider.disabled = methodsOf(overview, view).length === 0;
  document.getElementById("calibrated").disabled = slider.disabled;
}

function setThreshold(text, keep = true) {
  moveBoxes(overview, currentView(), text).catch((error) => tell(error.message));
  if (keep) go({ t: text }, true);
}

function currentView() {
  const view = readAddress();
  view.data_set ||= Object.keys(overview.sets)[0];
  return view;
}

let move = 0;

async function moveBoxes(overview, view, threshold) {
  const own = ++move;
  const panels = [...document.querySelectorAll("#panels .panel")].filter((each) => each.querySelector("svg"));
  const found = await Promise.all(panels.map(async ({ dataset: { rev, method } }) => {
    if (!method) return null;
    if (threshold === "" && overview.sets[view.data_set].revisions[rev].methods[method] === null) {
      return { error: "no calibrated threshold: move the slider" };
    }
    try {
      return await source.live(view, rev, method, shown.label, threshold);
    } catch (error) {
      return { error: error.message };
    }
  }));
  if (own !== move) return;
  const opacity = readLayers(view.layers).get("box");
  panels.forEach((panel, position) => drawLive(panel, found[position], opacity));
  const value = found.find((each) => each?.threshold !== undefined)?.threshold;
  if (value === undefined) return;
  shown.threshold = value;
  const slider = document.getElementById("slider");
  if (document.activeElement !== slider || threshold === "") slider.value = stopOf(value);
  const same = found.every((each) => each?.threshold === undefined || each.threshold === value);
  document.getElementById("threshold-value").textContent = same ? Number(value.toFixed(4)) : "each its own";
}

function drawLive(panel, found, opacity) {
  const lines = panel.querySelector("svg");
  for (const old of lines.querySelectorAll("[data-live]")) old.remove();
  const before = lines.childElementCount;
  if (found?.boxes && opacity !== undefined) outline(lines, found.boxes, `rev${panel.dataset.rev}`, opacity);
  for (const made of [...lines.children].slice(before)) made.dataset.live = "";
  const iou = found?.iou === null || found?.iou === undefined ? "" : `, IoU ${percent(found.iou)}`;
  const text = found?.error ?? (found ? `at ${thresholdText(found)}${iou}` : "");
  panel.querySelector(".figure").textContent = text;
}

// On the scale `otsu` each image's own threshold by Otsu's rule is 0.5.
function thresholdText({ threshold, scale }) {
  return `${Number(threshold.toFixed(4))}${scale === "value" ? "" : ` (${scale})`}`;
}

function stopOf(value) {
  return overview.thresholds.findLastIndex((each) => each <= value + 1e-9);
}

function stepThreshold(step) {
  const last = overview.thresholds.length - 1;
  const stop = Math.min(last, Math.max(0, stopOf(shown.threshold ?? 0.5) + step));
  setThreshold(String(overview.thresholds[stop]));
}

function keyInGrid(event) {
  const tiles = [...document.querySelectorAll(".tile")];
  const at = tiles.indexOf(document.activeElement);
  const columns = tiles.filter((tile) => tile.offsetTop === tiles[0].offsetTop).length;
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
  const pages = document.querySelectorAll("#pages a");
  if (event.key in steps) tiles[at < 0 ? 0 : Math.min(tiles.length - 1, Math.max(0, at + steps[event.key]))]?.focus();
  else if (event.key === "n" && pages[1].href) pages[1].click();
  else if (event.key === "p" && pages[0].href) pages[0].click();
  else return false;
  return true;
}

function keyInImage(event, view) {
  const layer = layerList(overview, view)[KEYS.indexOf(event.key)];
  if (event.key === "ArrowLeft" && shown.image.previous) go({ id: shown.image.previous });
  else if (event.key === "ArrowRight" && shown.image.next) go({ id: shown.image.next });
  else if (event.key === "Escape") go({ id: "" });
  else if (event.key === "+" || event.key === "=") stepThreshold(1);
  else if (event.key === "-") stepThreshold(-1);
  else if (event.key === "c") setThreshold("");
  else if (layer) toggle(layer.key);
  else return false;
  return true;
}

function keyPressed(event) {
  const typing = event.target.matches("input:not([type=checkbox]), select, textarea");
  if (event.ctrlKey || event.metaKey || event.altKey || typing || document.getElementById("help").open) return;
  const view = currentView();
  if (event.key === "?") document.getElementById("help").showModal();
  else if (event.key === "/") document.getElementById("filter").elements.q.focus();
  else if (!(view.id ? keyInImage(event, view) : keyInGrid(event))) return;
  event.preventDefault();
}

async function start() {
  const slider = document.getElementById("slider");
  slider.oninput = () => setThreshold(String(overview.thresholds[slider.value]), false);
  slider.onchange = () => setThreshold(String(overview.thresholds[slider.value]));
  document.getElementById("calibrated").onclick = () => setThreshold("");
  document.getElementById("help-button").onclick = () => document.getElementById("help").showModal();
  document.getElementById("filter").onsubmit = (event) => event.preventDefault();
  document.getElementById("filter").onchange = filterChanged;
  addEventListener("keydown", keyPressed);
  addEventListener("hashchange", render);
  try {
    overview = await source.overview();
  } catch (error) {
    tell(error.message);
    return;
  }
  await render();
}

start();
