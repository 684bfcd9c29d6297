"use strict";
// Where the data comes from: the server, or data.js of a folder that `wsol inspect --static` wrote. Both answer alike.

const serverSource = {
  async ask(page, words) {
    const given = Object.entries(words).filter(([, value]) => value !== "" && value !== null && value !== undefined);
    const reply = await fetch(`${page}?${new URLSearchParams(given)}`);
    if (!reply.ok) throw new Error((await reply.text()).trim());
    return reply.json();
  },
  overview() { return this.ask("api/overview", {}); },
  page(view) { return this.ask("api/page", pick(view, [...FILTER, "page"])); },
  image(view) { return this.ask("api/image", pick(view, [...FILTER, "id"])); },
  boxes(view, rev, layer) { return this.ask("api/boxes", { data_set: view.data_set, id: view.id, rev, layer }); },
  live(view, rev, method, label, threshold) {
    return this.ask("api/live", { data_set: view.data_set, id: view.id, rev, method, label, threshold });
  },
  picture(view, rev, layer, label) {
    return `layer?${new URLSearchParams({ data_set: view.data_set, id: view.id, rev, layer, label })}`;
  },
};

class FolderSource {
  constructor(content) {
    this.content = content;
    this.byId = new Map(content.images.map((image) => [image.id, image]));
  }

  overview() { return this.content.overview; }

  page(view) {
    const images = this.select(view);
    const { page } = this.content.overview;
    return { total: images.length, images: images.slice(view.page * page, (Number(view.page) + 1) * page) };
  }

  image(view) {
    const image = this.found(view.id);
    const images = this.select(view);
    const place = images.indexOf(image);
    const near = (step) => (place < 0 ? null : images[place + step]?.id ?? null);
    return { ...image, place: place < 0 ? null : place, total: images.length, previous: near(-1), next: near(1) };
  }

  boxes(view, rev, layer) { return this.found(view.id).boxes[rev][layer] ?? { boxes: [] }; }

  live(view, rev, method, label, threshold) {
    const own = this.found(view.id).live[rev][method];
    if (!own) throw new Error(`method '${method}' has no map of this image`);
    if (threshold === "") {
      if (!own.calibrated) throw new Error(`method '${method}' has no calibrated threshold; name one`);
      return own.calibrated;
    }
    const value = Number(threshold);
    return { ...(own.steps.findLast((step) => step.threshold <= value) ?? own.steps[0]), threshold: value };
  }

  picture(view, rev, layer) { return this.found(view.id).layers[rev][layer] ?? null; }

  found(id) {
    if (!this.byId.has(id)) throw new Error(`no image '${id}' in this folder`);
    return this.byId.get(id);
  }

  select(view) {
    const { classes, measured } = this.content.overview.sets[this.content.data_set];
    const method = view.method || measured[0];
    const result = (image, rev = 0) => image.results[method]?.[rev] ?? null;
    const iou = (image, rev = 0) => result(image, rev)?.iou ?? null;
    const text = view.q.toLowerCase();
    const [low, high] = [Number(view.low), Number(view.high)];
    const kept = this.content.images.filter((image) => {
      const value = iou(image);
      const words = [image.id, ...image.labels.map((label) => classes[label])];
      return (!view.split || image.split === view.split)
        && (view.label === "" || image.labels.includes(Number(view.label)))
        && (!text || words.some((word) => word.toLowerCase().includes(text)))
        && (view.outcome !== "right" || value > 0.5)
        && (view.outcome !== "wrong" || (value !== null && !(value > 0.5)))
        && (view.outcome !== "none" || !result(image)?.boxes.length)
        && ((low <= 0 && high >= 1) || (value !== null && value >= low && value <= high));
    });
    const rank = {
      worst: (image) => (result(image)?.boxes.length ? iou(image) : iou(image) === null ? null : -1),
      best: (image) => (iou(image) === null ? null : -iou(image)),
      change: (image) => (iou(image, 1) === null || iou(image) === null ? null : iou(image, 1) - iou(image)),
    }[view.sort];
    const byId = (a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
    const byRank = (a, b) => (rank ? (rank(a) ?? Infinity) - (rank(b) ?? Infinity) || 0 : 0);
    return kept.sort((a, b) => byRank(a, b) || byId(a, b));
  }
}

function pick(view, names) {
  return Object.fromEntries(names.map((name) => [name, view[name]]));
}

const source = window.INSPECTION ? new FolderSource(window.INSPECTION) : serverSource;
