// Keeps a page up to date: slots, stream, slider. Marks: base.html.

export const $ = (query, within = document) => within.querySelector(query);
export const $$ = (query, within = document) => [...within.querySelectorAll(query)];
const body = document.body;

export const isLocal = (href) => /^\/(?![/\\])/.test(href);

export function remembered(name, value) {
  try {
    if (value === undefined) return localStorage.getItem(`flowq.${name}`);
    localStorage.setItem(`flowq.${name}`, value);
  } catch { /* forbidden */ }
}

export function say(text) {
  $("#said").textContent = "";
  setTimeout(() => { $("#said").textContent = text; }, 50);
}

// Unasked: at most every 10 s.
let spoken = -Infinity, news;
function tell(text) {
  if (!news) setTimeout(() => {
    spoken = performance.now();
    say(news);
    news = "";
  }, spoken + 10_000 - performance.now());
  news = text;
}

// Values are text, or these attributes.
const ATTRIBUTES = new Set(["aria-label", "d", "data-level", "data-mortal", "data-neck", "data-state", "min", "stroke-width", "width", "x"]);

function put(element, attribute, text) {
  if (ATTRIBUTES.has(attribute) || (attribute === "href" && /^#i-[a-z]+$/.test(text))) element.setAttribute(attribute, text);
  else if (attribute === "href" && element.localName === "a" && isLocal(text)) element.setAttribute("href", (body.dataset.root ?? "") + text);
  else if (!text) element.removeAttribute("href");
}

const pairs = (text) => text.split(" ").map((pair) => {
  const at = pair.indexOf(":");
  return [pair.slice(0, at), pair.slice(at + 1)];
});

export class Slots {
  #places = new Map();
  #shown = new Map();
  #live = {};
  #rows = {};
  #isPast = false;

  constructor() {
    for (const element of $$("[data-live]")) this.#place(element.dataset.live, (text) => { element.textContent = text; });
    for (const element of $$("[data-attr]"))
      for (const [attribute, slot] of pairs(element.dataset.attr)) this.#place(slot, (text) => put(element, attribute, text));
  }

  #place(slot, show) {
    if (!this.#places.has(slot)) this.#places.set(slot, []);
    this.#places.get(slot).push(show);
  }

  #show(set, rows) {
    for (const [slot, text] of Object.entries(set)) {
      if (this.#shown.get(slot) === text) continue;
      this.#shown.set(slot, text);
      for (const show of this.#places.get(slot) ?? []) show(text);
    }
    for (const [name, values] of Object.entries(rows)) for (const list of $$(`[data-rows="${CSS.escape(name)}"]`)) fill(list, values);
  }

  // Kept back, not lost, while the past is shown.
  change({ set = {}, rows = {} }) {
    this.#tell(set, rows);
    Object.assign(this.#live, set);
    Object.assign(this.#rows, rows);
    if (!this.#isPast) this.#show(set, rows);
  }

  past(set) {
    this.#isPast = true;
    this.#show(set, {});
  }

  now() {
    this.#isPast = false;
    this.#show(this.#live, this.#rows);
  }

  #tell(set, rows) {
    const before = this.#rows.attention, now = rows.attention, was = this.#live["p.state"], state = set["p.state"];
    const kind = ({ state, title }) => state + title.replace(/[\d,]+/, "");
    const fresh = before && now?.find((row) => !before.map(kind).includes(kind(row)));
    if (fresh) tell(`${fresh.title} ${fresh.text}`);
    else if (before?.length && now?.length === 0) tell("Nothing needs attention");
    else if (was && state && state !== was) tell(state);
  }
}

// Rows that stay keep the focus.
function fill(list, values) {
  const template = $("template", list), old = [...list.children].filter((child) => child !== template);
  values.forEach((row, at) => {
    const item = old[at] ?? list.appendChild(template.content.firstElementChild.cloneNode(true));
    for (const element of [item, ...$$("[data-field], [data-field-attr]", item)]) {
      const { field, fieldAttr } = element.dataset;
      if (field) element.textContent = row[field] ?? "";
      if (fieldAttr) for (const [attribute, name] of pairs(fieldAttr)) put(element, attribute, row[name] ?? "");
    }
  });
  old.slice(values.length).forEach((item) => item.remove());
}

const WORDS = { live: "Live", load: "Connecting", stale: "Stale", lost: "Not connected", error: "No Redis" };
const HIDDEN_MS = 5_000; // a browser has six connections for a host
const LONGEST_WAIT_S = 15;

export class Feed {
  lastAt = 0; // by the server's clock
  onlook = () => {};
  #source;
  #heard = performance.now();
  #every = Number(body.dataset.every || 1) * 1000;
  #tries = 0;
  #since;
  #next;

  constructor(url, slots) {
    this.url = url;
    this.slots = slots;
    let hidden;
    document.addEventListener("visibilitychange", () => {
      clearTimeout(hidden);
      if (document.hidden) hidden = setTimeout(() => this.#close(), HIDDEN_MS);
      else if (!this.#source) this.open();
    });
    setInterval(() => {
      if (this.#source && body.dataset.conn === "live" && performance.now() - this.#heard > 3 * this.#every + 500)
        this.state("stale", "The numbers are old.", "flowq keeps trying.");
    }, 1000);
    if (!document.hidden) this.open();
  }

  open() {
    this.#close();
    this.#heard = performance.now();
    const source = this.#source = new EventSource(this.url);
    for (const kind of ["full", "patch"]) source.addEventListener(kind, ({ data }) => this.#take(JSON.parse(data)));
    source.onerror = () => { if (source === this.#source) this.#lost(); };
    source.addEventListener("bye", source.onerror);
  }

  #close() {
    clearTimeout(this.#next);
    this.#source?.close();
    this.#source = undefined;
  }

  #take(look) {
    this.#heard = performance.now();
    this.#tries = 0;
    if (!look.trouble && (look.plan !== body.dataset.plan || $("[aria-busy]"))) return location.reload(); // there is more
    this.lastAt = look.at;
    this.#every = look.every_ms;
    this.state(look.trouble ? "error" : "live", look.trouble, look.trouble && "flowq keeps trying.");
    this.slots.change(look);
    this.onlook();
  }

  #lost() {
    this.#close();
    this.#since ??= new Date().toLocaleTimeString([], { hour12: false });
    this.#wait(Math.ceil(Math.min(2 ** this.#tries++, LONGEST_WAIT_S) * (0.8 + 0.2 * Math.random())));
  }

  #wait(seconds) {
    this.state("lost", `No connection to flowq since ${this.#since}.`, `The numbers are from then. Trying again in ${seconds} s.`);
    this.#next = setTimeout(() => (seconds > 1 ? this.#wait(seconds - 1) : this.open()), 1000);
  }

  state(conn, title = "", text = "") {
    const before = body.dataset.conn;
    $("#trouble").textContent = title;
    $("#next").textContent = text;
    if (conn === before) return;
    body.dataset.conn = conn;
    $("#bar").hidden = conn === "live";
    if (!("past" in body.dataset)) $("#conn").textContent = this.word;
    if (conn === "live") this.#since = undefined;
    if (before !== "load") say(conn === "live" ? "Connected again" : `${this.word}. ${title}`);
  }

  get word() { return WORDS[body.dataset.conn]; }
}

const ago = (seconds) => (seconds < 90 ? `${Math.round(seconds)} s ago` : `${Math.round(seconds / 60)} min ago`);

// The slider: its value is seconds before the last look, negative.
export class Timeline {
  #range = $("#moment");
  #back = $('[data-do="live"]');
  #moment; // by the server's clock; undefined: now
  #asking = false;

  constructor(url, feed, slots) {
    Object.assign(this, { url, feed, slots });
    this.#range.addEventListener("input", () => this.#choose());
    feed.onlook = () => { if (this.isPast) this.#say(); };
  }

  get isPast() { return this.#moment !== undefined; }

  #choose() {
    if (Number(this.#range.value) >= 0) return this.live();
    this.#moment = this.feed.lastAt + this.#range.value * 1000;
    body.dataset.past = "";
    $("#conn").textContent = "Past";
    this.#back.hidden = false;
    this.#say();
    this.#ask();
  }

  #say(text = ago((this.feed.lastAt - this.#moment) / 1000)) {
    this.#range.value = this.isPast ? (this.#moment - this.feed.lastAt) / 1000 : 0;
    this.#range.setAttribute("aria-valuetext", text);
    $("#shown").textContent = text;
  }

  async #ask() {
    if (this.#asking) return;
    this.#asking = true;
    let asked;
    while (this.isPast && asked !== this.#moment) {
      asked = this.#moment;
      const answer = await fetch(`${this.url}?t=${Math.round(asked)}`).catch(() => ({}));
      const { set } = answer.status === 200 ? await answer.json() : {};
      if (set && this.isPast) this.slots.past(set);
    }
    this.#asking = false;
  }

  live() {
    if (!this.isPast) return;
    this.#moment = undefined;
    delete body.dataset.past;
    $("#conn").textContent = this.feed.word;
    this.#say("now");
    if (document.activeElement === this.#back) this.#range.focus();
    this.#back.hidden = true;
    this.slots.now();
  }

  move(by) {
    this.#range.value -= -by * Math.max(5, -this.#range.min / 60);
    this.#choose();
  }
}
