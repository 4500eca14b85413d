// Slots: names of values, and their places on the page. A value is only ever text or one of the attributes below.
//   <b data-live="s.fetch.rate">                              text
//   <rect data-attr="width:s.fetch.use data-state:…">         attributes
//   <ul data-rows="attention"><template><li data-field-attr="data-state:state"><b data-field="title">…
//                                                             a list: one copy of the template for each row
import { $, $$, isLocal, tell } from "./page.js";

const ATTRIBUTES = new Set([
  "aria-label", "aria-valuetext", "cx", "d", "data-level", "data-mortal", "data-neck", "data-state", "height", "min",
  "stroke-width", "title", "width", "x", "y",
]);

function put(element, attribute, text) {
  if (ATTRIBUTES.has(attribute)) element.setAttribute(attribute, text);
  else if (attribute === "href" && (/^#i-[a-z]+$/.test(text) || (element.localName === "a" && isLocal(text))))
    element.setAttribute("href", text);
  else if (attribute === "href" && !text) element.removeAttribute("href");
}

const pairs = (text) => text.split(" ").map((pair) => [pair.slice(0, pair.indexOf(":")), pair.slice(pair.indexOf(":") + 1)]);

export class Slots {
  #places = new Map();
  #shown = new Map();
  #live = {};
  #rows = {};
  #past = false;

  constructor() {
    for (const element of $$("[data-live]")) this.#place(element.dataset.live, (text) => { element.textContent = text; });
    for (const element of $$("[data-attr]"))
      for (const [attribute, slot] of pairs(element.dataset.attr)) this.#place(slot, (text) => put(element, attribute, text));
  }

  #place(slot, show) {
    const places = this.#places.get(slot);
    if (places) places.push(show);
    else this.#places.set(slot, [show]);
  }

  #show(values) {
    for (const [slot, text] of Object.entries(values)) {
      if (this.#shown.get(slot) === text) continue;
      this.#shown.set(slot, text);
      for (const show of this.#places.get(slot) ?? []) show(text);
    }
  }

  // What is now. While the past is shown it is kept back, not lost.
  change({ set = {}, rows = {} }) {
    this.#news(set, rows);
    Object.assign(this.#live, set);
    Object.assign(this.#rows, rows);
    if (!this.#past) this.#showNow(set, rows);
  }

  #showNow(set, rows) {
    this.#show(set);
    for (const [name, values] of Object.entries(rows)) for (const list of $$(`[data-rows="${CSS.escape(name)}"]`)) fill(list, values);
  }

  past(values) {
    this.#past = true;
    this.#show(values);
  }

  now() {
    this.#past = false;
    this.#showNow(this.#live, this.#rows);
  }

  // Worse or better is spoken; numbers are not.
  #news(set, rows) {
    const before = this.#rows.attention;
    const key = ({ state, title }) => `${state} ${title}`;
    if (before && rows.attention) {
      const known = new Set(before.map(key));
      const fresh = rows.attention.find((row) => !known.has(key(row)));
      if (fresh) return tell(`${fresh.title} ${fresh.text}`);
      if (before.length && !rows.attention.length) return tell("Nothing needs attention any more");
    }
    if (this.#live["p.state"] && set["p.state"] && set["p.state"] !== this.#live["p.state"]) tell(set["p.state"]);
  }
}

// Rows that stay keep their elements, and with them the focus.
function fill(list, values) {
  const template = $("template", list), old = [...list.children].filter((child) => child !== template);
  values.forEach((row, at) => {
    const item = old[at] ?? list.appendChild(template.content.firstElementChild.cloneNode(true));
    for (const element of [item, ...$$("[data-field], [data-field-attr]", item)]) {
      if (element.dataset.field) element.textContent = row[element.dataset.field] ?? "";
      if (element.dataset.fieldAttr)
        for (const [attribute, field] of pairs(element.dataset.fieldAttr)) put(element, attribute, row[field] ?? "");
    }
  });
  for (const item of old.slice(values.length)) item.remove();
}
