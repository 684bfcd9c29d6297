"use strict";
// The grid: filter, pages, thumbnails with the true boxes and those of the chosen method.

function fillFilter(overview, view) {
  const form = document.getElementById("filter").elements;
  const set = overview.sets[view.data_set];
  const options = (select, pairs) => {
    select.replaceChildren(...pairs.map(([value, text]) => new Option(text, value)));
  };
  options(form.data_set, Object.entries(overview.sets).map(([name, own]) => [name, `${name} (${own.images})`]));
  options(form.split, [["", "all"], ...Object.entries(set.splits).map(([name, count]) => [name, `${name} (${count})`])]);
  options(form.label, [["", "all"], ...set.classes.map((name, label) => [String(label), name])]);
  options(form.method, set.measured.map((name) => [name, name]));
  form.sort.querySelector("[value=change]").hidden = overview.revisions.length < 2;
  for (const name of FILTER) form[name].value = view[name];
  if (!view.method && set.measured.length) form.method.value = set.measured[0];
}

function filterChanged(event) {
  const changes = { page: "0", id: "", [event.target.name]: event.target.value };
  if (event.target.name === "low" || event.target.name === "high") changes[event.target.name] ||= DEFAULTS[event.target.name];
  if (event.target.name === "data_set") Object.assign(changes, { split: "", label: "", method: "", side: "", layers: DEFAULTS.layers });
  go(changes, event.target.name === "q");
}

function showGrid(overview, view, { total, images }) {
  const pages = Math.max(1, Math.ceil(total / overview.page));
  const set = overview.sets[view.data_set];
  const method = view.method || set.measured[0];
  document.getElementById("summary").textContent =
    `${total.toLocaleString("en")} of ${set.images.toLocaleString("en")} images` +
    (method && set.reference ? `; IoU of ${method} with ${set.reference}` : "") +
    (overview.revisions.length > 1 ? `, ${overview.revisions.join(" → ")}` : "");
  document.getElementById("grid").replaceChildren(...images.map((image) => tile(image, set, method, view)));
  const page = Number(view.page);
  const link = (text, to, there) =>
    element("a", there ? { href: addressOf({ ...view, page: String(to) }), textContent: text } : { textContent: text });
  document.getElementById("pages").replaceChildren(
    link("← previous", page - 1, page > 0), element("span", { textContent: `page ${page + 1} of ${pages}` }),
    link("next →", page + 1, page + 1 < pages),
  );
}

function tile(image, set, method, view) {
  const results = image.results[method] ?? [];
  const picture = element("img", { src: image.thumbnail ?? "", alt: "", loading: "lazy", decoding: "async" });
  const drawing = outlines(image.width, image.height);
  outline(drawing, image.truth, "truth");
  results.forEach((result, rev) => outline(drawing, result?.boxes ?? [], `rev${rev}`));
  const frame = element("div", { className: "frame" }, picture, drawing);
  frame.style.aspectRatio = `${image.width} / ${image.height}`;
  frame.style.width = `${100 * Math.min(1, image.width / image.height)}%`;
  const figures = results.map((result, rev) =>
    element("b", { className: `rev${rev} ${(result?.iou ?? 0) > 0.5 ? "right" : "wrong"}`, textContent: percent(result?.iou) }));
  const names = image.labels.map((label) => set.classes[label]).join(", ");
  return element("a", { className: "tile", href: addressOf({ ...view, id: image.id }), title: `${image.id}: ${names}` },
    element("div", { className: "square" }, frame),
    element("span", { className: "caption" }, ...figures, element("span", { textContent: names })));
}
