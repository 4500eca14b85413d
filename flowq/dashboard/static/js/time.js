// The slider: everything on the page as it was at a moment of the last hour.
// <input type="range" id="moment" min="-3600" max="0" step="5" value="0">: seconds before the last look.
import { $, body } from "./page.js";

const ago = (seconds) => (seconds < 90 ? `${Math.round(seconds)} s ago` : `${Math.round(seconds / 60)} min ago`);

export class Timeline {
  #range = $("#moment");
  #shown = $("#shown");
  #back = $('[data-do="live"]');
  #moment; // the server's clock, in ms; undefined: now
  #asked;

  constructor(url, feed, slots) {
    Object.assign(this, { url, feed, slots });
    if (!this.#range) return;
    this.#range.addEventListener("input", () => this.#choose());
    feed.onlook = () => { if (this.isPast) this.#say(); };
  }

  get isPast() { return this.#moment !== undefined; }

  #choose() {
    const seconds = Number(this.#range.value);
    if (!this.#range.max || seconds >= Number(this.#range.max)) return this.live();
    this.#moment = this.feed.lastAt + seconds * 1000;
    body.dataset.past = "";
    $("#conn").textContent = "Past";
    this.#back.hidden = false;
    this.#say();
    this.#ask();
  }

  #say() {
    const seconds = (this.feed.lastAt - this.#moment) / 1000;
    this.#range.value = -seconds;
    this.#shown.textContent = ago(seconds);
    this.#range.setAttribute("aria-valuetext", ago(seconds));
  }

  // One question at a time; the last one asked meanwhile follows.
  async #ask() {
    const moment = Math.round(this.#moment);
    if (this.#asked !== undefined) { this.#asked = moment; return; }
    this.#asked = moment;
    try {
      const answer = await fetch(`${this.url}?t=${moment}`);
      if (answer.ok && this.isPast) this.slots.past((await answer.json()).set);
    } catch { /* lost: the bar says so */ }
    const again = this.#asked !== moment && this.isPast;
    this.#asked = undefined;
    if (again) this.#ask();
  }

  live() {
    if (!this.#range || !this.isPast) return;
    this.#moment = undefined;
    delete body.dataset.past;
    $("#conn").textContent = this.feed.word;
    this.#range.value = this.#range.max;
    this.#range.setAttribute("aria-valuetext", "now");
    this.#shown.textContent = "now";
    if (document.activeElement === this.#back) this.#range.focus();
    this.#back.hidden = true;
    this.slots.now();
  }

  move(by) {
    if (!this.#range) return;
    const step = Math.max(Number(this.#range.step) || 1, -Number(this.#range.min) / 60);
    this.#range.value = Number(this.#range.value) + by * step;
    this.#choose();
  }
}
