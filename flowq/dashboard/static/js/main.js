// Keys, the large graph, dialogs and what they send.
import { $, $$, Feed, isLocal, remembered, say, Slots, Timeline } from "./live.js";

// Arrow keys go along the edges; a large graph is dragged, zoomed, and moved by its map.
const place = (node) => { const { e, f } = node.transform.baseVal[0].matrix; return { x: e, y: f }; };

function neighbour(node, key) {
  const [mine, other] = key === "ArrowRight" ? ["from", "to"] : ["to", "from"];
  if (key === "ArrowRight" || key === "ArrowLeft") {
    const line = $$(".line:not(.back)").find(({ dataset }) => dataset[mine] === node.dataset.stage);
    return line && $(`.node[data-stage="${CSS.escape(line.dataset[other])}"]`);
  }
  const here = place(node), down = key === "ArrowDown" ? 1 : -1;
  const below = (to) => (place(to).y - here.y) * down;
  return $$(".node").filter((to) => Math.abs(place(to).x - here.x) < 20 && below(to) > 0).sort((a, b) => below(a) - below(b))[0];
}

class Window {
  #svg = $(".graph.large");
  #sheet = $("#sheet");
  #map = $("#minimap");
  #scale = 1;

  constructor() {
    const sheet = this.#sheet, { x, y, width, height } = this.#svg.viewBox.baseVal;
    this.all = { x, y, width, height };
    sheet.classList.add("moves");
    sheet.addEventListener("pointerdown", (event) => { if (!event.button) this.#drag(event); });
    sheet.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      this.zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15);
    }, { passive: false });
    sheet.addEventListener("focusin", ({ target }) => { if (target.matches(".card:focus-visible")) this.show(target.closest(".node")); });
    for (const kind of ["pointerdown", "pointermove"])
      this.#map.addEventListener(kind, (event) => {
        const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.#map.getScreenCTM().inverse());
        if (event.buttons & 1) this.to(at.x, at.y);
      });
    this.neck();
    new ResizeObserver(() => this.to(this.x, this.y)).observe(sheet);
  }

  to(x, y) {
    const { all } = this, width = this.#seen.width / this.#scale, height = this.#seen.height / this.#scale;
    const within = (value, from, size, seen) => (seen > size ? from + size / 2 : Math.min(Math.max(value, from + seen / 2), from + size - seen / 2));
    this.x = within(x, all.x, all.width, width);
    this.y = within(y, all.y, all.height, height);
    const box = { x: this.x - width / 2, y: this.y - height / 2, width, height };
    this.#svg.setAttribute("viewBox", Object.values(box).map(Math.round).join(" "));
    this.#svg.classList.toggle("far", this.#scale < 0.6);
    for (const [name, value] of Object.entries(box)) $("#lens").setAttribute(name, Math.round(value));
  }

  #drag(down) {
    const { x, y } = this, end = new AbortController(), until = { signal: end.signal };
    let moved = false;
    addEventListener("pointermove", ({ clientX, clientY }) => {
      const right = clientX - down.clientX, below = clientY - down.clientY;
      moved ||= Math.hypot(right, below) > 4;
      if (moved) this.to(x - right / this.#scale, y - below / this.#scale);
    }, until);
    for (const kind of ["pointerup", "pointercancel"]) addEventListener(kind, () => {
      end.abort();
      const click = new AbortController();
      if (moved) addEventListener("click", (event) => event.preventDefault(), { capture: true, signal: click.signal });
      setTimeout(() => click.abort());
    }, until);
  }

  move(x, y) { this.to(this.x + x / this.#scale, this.y + y / this.#scale); }
  show(node) { const { x, y } = place(node), box = node.getBBox(); this.to(x + box.width / 2, y + box.height / 2); }
  neck() { this.show($(".card[aria-current]")?.closest(".node") ?? $('.node[data-neck="yes"]') ?? $(".node")); }
  get #seen() { return this.#sheet.getBoundingClientRect(); }
  get #whole() { return Math.min(this.#seen.width / this.all.width, this.#seen.height / this.all.height, 1); }
  zoom(by) { this.#scale = Math.min(1.6, Math.max(this.#whole, this.#scale * by)); this.move(0, 0); }
  fit() { this.#scale = this.#whole; this.move(0, 0); }
}

const root = document.documentElement, { feed: changes, at } = document.body.dataset;
const slots = new Slots();
const feed = changes && new Feed(changes, slots);
const time = feed && at && $("#moment") && new Timeline(at, feed, slots);
const graph = $(".graph.large") && new Window();

const keysOn = $("#keys-on");
keysOn.checked = remembered("keys") !== "off";
keysOn.addEventListener("change", () => remembered("keys", keysOn.checked ? "on" : "off"));
if (location.hash) { // back from the drawer of a stage
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
  } catch {
    getSelection().selectAllChildren(button.previousElementSibling ?? button);
    say("Selected");
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

function row(from, by) {
  const rows = $$("[data-row]:not([hidden])"), at = rows.indexOf(from.closest("[data-row]"));
  return at < 0 ? undefined : $("a", rows[at + by] ?? from);
}

const go = (tab) => () => $$(".tabs a")[tab]?.click();
const KEYS = {
  "?": DO.help, l: DO.live, "[": () => time?.move(-1), "]": () => time?.move(1), "+": DO.in, "-": DO.out, 0: DO.fit,
  g: go(0), d: go(1), t: go(2), w: go(3),
  b() { $('.node[data-neck="yes"] .card')?.focus(); DO.neck(); },
  "/": () => $("#find")?.focus(),
};
const STEPS = { ArrowLeft: [-80, 0], ArrowRight: [80, 0], ArrowUp: [0, -80], ArrowDown: [0, 80] };

function arrow(event) {
  const { key, target } = event, node = target.closest(".node");
  const [right, down] = STEPS[key];
  const next = node ? $(".card", neighbour(node, key) ?? node) : down && !target.matches("input, select, textarea") && row(target, Math.sign(down));
  if (next) next.focus();
  else if (target.id === "sheet" && graph) graph.move(right, down);
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

const line = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
const fields = (form) => Object.fromEntries(new FormData(form));

async function post(address, values) {
  const answer = await fetch(address, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Flowq-Token": $('meta[name="flowq-token"]')?.content ?? "" },
    body: JSON.stringify(values),
  });
  const said = await answer.json().catch(() => ({}));
  return answer.ok ? said : { error: `flowq answered ${answer.status}`, ...said };
}

function show(form, answer) {
  const { error = "", errors = [], changes, fits = "" } = answer;
  const faults = errors.length ? errors.map(({ path, message }) => (path ? `${path}: ${message}` : message)) : error ? [error] : [];
  const diff = $(".diff", form), verdict = $(".fits", form);
  if (diff && changes)
    diff.replaceChildren(...(changes.length ? changes : [{ path: "nothing yet" }]).map(({ path, before, after }) => {
      const row = line("li", "");
      row.append(line("b", path), ...(before == null ? [] : [line("del", before)]), ...(after == null ? [] : [line("ins", after)]));
      return row;
    }));
  if (verdict) {
    verdict.dataset.state = faults.length ? "dead" : "ok";
    verdict.textContent = faults.length ? `✕ ${faults.join("; ")}` : fits && `✓ fits ${fits}`;
  }
  for (const input of $$("[name]", form)) input.ariaInvalid = errors.some(({ path }) => path === input.name) ? "true" : null;
  const dialog = form.closest("dialog") ?? form;
  for (const [key, mark] of Object.entries({ n: "n", text: "text", stays: "stays", command: "command", unlock: "unlocking" }))
    if (answer[key] !== undefined) for (const place of $$(`[data-${mark}]`, dialog)) place.textContent = answer[key];
  for (const button of answer.command === undefined ? [] : $$(".cli button", form)) button.dataset.copy = answer.command;
  for (const input of $$("[data-expected]", form)) input.value = answer.expected ?? input.value;
  for (const input of $$("[data-unlock]", form)) input.dataset.unlock = answer.unlock ?? input.dataset.unlock;
  return faults;
}

async function send(form) {
  const buttons = $$("button", form);
  buttons.forEach((button) => { button.disabled = true; });
  const answer = await post(form.dataset.send, fields(form)).catch(() => ({ error: "No connection to flowq: whether anything was changed is not known" }));
  buttons.forEach((button) => { button.disabled = false; });
  if (answer.expected !== undefined) await check(form);
  const faults = show(form, answer);
  unlock(form);
  if (faults.length) return say(faults.join("; "));
  form.closest("dialog")?.close();
  remembered("said", answer.said ?? "Done");
  if (answer.next && isLocal(answer.next)) location.assign(answer.next);
  else location.reload();
}

const done = remembered("said"); // before this page
if (done) setTimeout(say, 300, done);
remembered("said", "");
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.dataset.send) return;
  event.preventDefault();
  send(form);
});
let waits, n_checks = 0;
async function check(form) {
  const own = ++n_checks;
  const answer = await post(form.dataset.check, { ...fields(form), dry_run: true }).catch(() => ({}));
  if (own !== n_checks) return;
  const faults = show(form, answer), main = $("button.main", form), rate = $("[data-proposed]", form);
  if (main) main.disabled = faults.length > 0 || answer.expected === 0;
  unlock(form);
  if (!rate || rate.dataset.proposed) return;
  rate.dataset.proposed = "done"; // once: who changes it back means it
  if (!answer.propose) return;
  rate.value = answer.propose;
  show(form, { command: answer.gentle });
}
document.addEventListener("input", ({ target }) => {
  const { form } = target;
  if (target.dataset.unlock && form) return unlock(form);
  if (!form?.dataset.check) return;
  clearTimeout(waits);
  waits = setTimeout(check, 250, form);
});
function unlock(form) {
  const open = $$("[data-unlock]", form).every(({ value, dataset }) => value === dataset.unlock);
  $$("button.danger", form).forEach((button) => { button.disabled = !open; });
}
document.addEventListener("click", ({ target }) => {
  const opener = target.closest("[data-open]"), dialog = opener && document.getElementById(opener.dataset.open);
  if (!dialog) return;
  dialog.showModal();
  for (const form of $$("form", dialog)) {
    unlock(form);
    if (form.dataset.check) check(form);
  }
});
