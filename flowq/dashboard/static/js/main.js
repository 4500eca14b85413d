// The page is complete as it comes from the server. This keeps its numbers up to date and adds keys.
// What comes from outside is only ever text: no element is made from it.
import { actions } from "./actions.js";
import { neighbour, Window } from "./graph.js";
import { $, $$, Feed, remembered, say, Slots, Timeline } from "./live.js";

const root = document.documentElement, { feed: changes, at } = document.body.dataset;
const slots = new Slots();
const feed = changes && new Feed(changes, slots);
const time = feed && at && $("#moment") && new Timeline(at, feed, slots);
const graph = $(".graph.large") && new Window();
actions();

const keysOn = $("#keys-on");
keysOn.checked = remembered("keys") !== "off";
keysOn.addEventListener("change", () => remembered("keys", keysOn.checked ? "on" : "off"));
if (location.hash) { // back from the drawer of a stage: on its card again
  const from = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (from?.matches(".card, [data-row] a")) from.focus({ focusVisible: true });
}

const DO = {
  theme() {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    remembered("theme", root.dataset.theme);
  },
  help: () => $("#help").showModal(),
  again: () => (feed ? feed.open() : location.reload()),
  live: () => time?.live(),
  in: () => graph?.zoom(1.25),
  out: () => graph?.zoom(0.8),
  fit: () => graph?.fit(),
  neck: () => graph?.neck(),
  shut: (button) => button.closest("dialog").close(),
};

async function copy(button) {
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    say("Copied");
  } catch { // only under https or on localhost
    getSelection().selectAllChildren(button.previousElementSibling ?? button);
    say("Selected: copy it with your keyboard");
  }
}

document.addEventListener("click", ({ target }) => {
  const button = target.closest("[data-do], [data-copy]");
  if (button?.dataset.copy) copy(button);
  else if (button) DO[button.dataset.do]?.(button);
  for (const menu of $$("details.menu[open]")) if (!menu.contains(target)) menu.open = false;
});

document.addEventListener("input", ({ target }) => {
  if (!target.hasAttribute("data-filter")) return;
  const wanted = target.value.toLowerCase();
  for (const row of $$("[data-row]")) row.hidden = !row.dataset.row.toLowerCase().includes(wanted);
});

// Up and down through the rows of a list or a table.
function row(from, by) {
  const rows = $$("[data-row]:not([hidden])"), at = rows.indexOf(from.closest("[data-row]"));
  return at < 0 ? undefined : $("a", rows[at + by] ?? from);
}

const go = (tab) => $$(".tabs a")[tab]?.click();
const KEYS = {
  "?": DO.help, l: DO.live, "[": () => time?.move(-1), "]": () => time?.move(1), "+": DO.in, "-": DO.out, 0: DO.fit,
  g: () => go(0), d: () => go(1), t: () => go(2), w: () => go(3),
  b() { $('.node[data-neck="yes"] .card')?.focus(); DO.neck(); },
  "/": () => $("#find")?.focus(),
};
const STEPS = { ArrowLeft: [-80, 0], ArrowRight: [80, 0], ArrowUp: [0, -80], ArrowDown: [0, 80] };

function arrow(event) {
  const { key, target } = event, node = target.closest(".node");
  const upright = key === "ArrowDown" || key === "ArrowUp";
  const next = node ? $(".card", neighbour(node, key) ?? node) : upright && !target.matches("input, select, textarea") && row(target, key === "ArrowDown" ? 1 : -1);
  if (next) next.focus();
  else if (target.id === "sheet" && graph) graph.move(...STEPS[key]);
  else return;
  event.preventDefault();
}

document.addEventListener("keydown", (event) => {
  const { key, target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || $("dialog[open]")) return;
  if (key in STEPS) return arrow(event);
  if (key === "Escape") {
    const menu = $("details.menu[open]");
    if (menu) { menu.open = false; $("summary", menu).focus(); }
    else if (time?.isPast) time.live();
    else $('[data-do="close"]')?.click();
  } else if (!target.matches("input:not([type=range], [type=checkbox]), textarea, select") && keysOn.checked && KEYS[key]) {
    event.preventDefault();
    KEYS[key]();
  }
});
