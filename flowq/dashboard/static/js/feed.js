// The stream of changes, and what the page says about it: live, stale, lost, and Redis away.
import { $, body, say } from "./page.js";

const WORDS = { live: "Live", load: "Connecting", stale: "Stale", lost: "Not connected", error: "No Redis" };
const HIDDEN_MS = 5_000; // a hidden tab gives its connection back: a browser has six for a host
const LONGEST_WAIT_S = 15;

export class Feed {
  lastAt = 0; // the server's clock at the last look, in ms
  #source;
  #heard = 0; // by this page's clock
  #tries = 0;
  #next;
  #hidden;

  constructor(url, slots) {
    this.url = url;
    this.slots = slots;
    this.every = Number(body.dataset.every || 1) * 1000;
    document.addEventListener("visibilitychange", () => this.#seen());
    addEventListener("pagehide", () => this.#close());
    addEventListener("pageshow", ({ persisted }) => { if (persisted) this.open(); });
    setInterval(() => this.#check(), 1000);
    if (!document.hidden) this.open();
  }

  open() {
    this.#close();
    this.#heard = performance.now();
    const source = this.#source = new EventSource(this.url);
    for (const kind of ["full", "patch"]) source.addEventListener(kind, ({ data }) => this.#take(JSON.parse(data)));
    source.addEventListener("bye", () => this.#lose(source));
    source.onerror = () => this.#lose(source);
  }

  #close() {
    clearTimeout(this.#next);
    this.#source?.close();
    this.#source = undefined;
  }

  #take(look) {
    this.#heard = performance.now();
    this.#tries = 0;
    if (look.plan && body.dataset.plan && look.plan !== body.dataset.plan) return location.reload(); // another graph
    if (look.at) this.lastAt = look.at;
    if (look.every_ms) this.every = look.every_ms;
    if (look.trouble) this.state("error", look.trouble, "The numbers are the last ones.");
    else this.state("live");
    this.slots.change(look);
    this.onlook?.();
  }

  #lose(source) {
    if (source !== this.#source) return;
    this.#close();
    const since = this.#since ??= new Date().toLocaleTimeString([], { hour12: false });
    const wait = Math.min(2 ** this.#tries++, LONGEST_WAIT_S) * (0.8 + 0.4 * Math.random());
    this.#wait(Math.round(wait), since);
  }
  #since;

  #wait(seconds, since) {
    this.state("lost", `No connection to flowq since ${since}.`, `The numbers are those of that moment. Trying again in ${seconds} s.`);
    this.#next = setTimeout(() => (seconds > 1 ? this.#wait(seconds - 1, since) : this.open()), 1000);
  }

  #check() {
    const silent = performance.now() - this.#heard;
    if (this.#source && body.dataset.conn === "live" && silent > 3 * this.every + 500)
      this.state("stale", "The numbers are old.", "flowq keeps asking Redis, less often while it answers slowly.");
  }

  #seen() {
    clearTimeout(this.#hidden);
    if (document.hidden) this.#hidden = setTimeout(() => this.#close(), HIDDEN_MS);
    else if (!this.#source) this.open();
  }

  state(conn, title = "", text = "") {
    const before = body.dataset.conn;
    $("#trouble").textContent = title;
    $("#next").textContent = text;
    if (conn === before) return;
    body.dataset.conn = conn;
    if (!("past" in body.dataset)) $("#conn").textContent = WORDS[conn];
    $("#bar").hidden = conn === "live";
    if (conn === "live") this.#since = undefined;
    if (before !== "load") say(conn === "live" ? "Connected again" : `${WORDS[conn]}. ${title}`);
  }

  get word() { return WORDS[body.dataset.conn]; }
}
