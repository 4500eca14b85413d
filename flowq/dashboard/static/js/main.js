// Keys, dialogs and what they send. The page is complete without; what comes from outside is only ever text.
import { neighbour, Window } from "./graph.js";
import { $, $$, Feed, isLocal, remembered, say, Slots, Timeline } from "./live.js";

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
const CHECK_MS = 250;

function fields(form, submitter) {
  const values = Object.fromEntries(new FormData(form, submitter));
  for (const box of $$('input[type="checkbox"][name]', form)) values[box.name] = box.checked;
  return values;
}

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

async function send(form, submitter) {
  const buttons = $$("button", form);
  buttons.forEach((button) => { button.disabled = true; });
  const answer = await post(form.dataset.send, fields(form, submitter)).catch(() => ({ error: "No connection to flowq: whether anything was changed is not known" }));
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
  if (!form.dataset.send || event.submitter?.hasAttribute("formnovalidate")) return;
  event.preventDefault();
  send(form, event.submitter);
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
  waits = setTimeout(check, CHECK_MS, form);
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
$$("dialog[data-show]").forEach((dialog) => dialog.showModal());
