// What all modules share: finding elements, speaking, the clock of the page.

export const $ = (query, within = document) => within.querySelector(query);
export const $$ = (query, within = document) => [...within.querySelectorAll(query)];
export const body = document.body;

// Spoken by a screen reader, one thing at a time.
export function say(text) {
  const said = $("#said");
  said.textContent = "";
  requestAnimationFrame(() => { said.textContent = text; });
}

// News that nobody asked for: the latest one, at most every 10 s.
let spoken = -Infinity, latest, waits;
export function tell(text) {
  latest = text;
  waits ??= setTimeout(() => {
    waits = undefined;
    spoken = performance.now();
    say(latest);
  }, Math.max(0, spoken + 10_000 - performance.now()));
}

// A link from outside leads to this site or not at all.
export const isLocal = (href) => /^\/(?![/\\])/.test(href);

export const remembered = {
  get: (name) => { try { return localStorage.getItem(`flowq.${name}`); } catch { return null; } },
  set: (name, value) => { try { localStorage.setItem(`flowq.${name}`, value); } catch { /* forbidden here */ } },
};
