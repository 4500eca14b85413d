// Dialogs, and what they send: every action has a second step. base.html says how a form is marked.
import { $, $$, isLocal, remembered, say } from "./live.js";

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

// What a check or a refusal says, in the places the form has for it.
function show(form, { error = "", errors = [], changes, fits = "", n }) {
  const faults = [...(error && !errors.length ? [error] : []), ...errors.map(({ path, message }) => (path ? `${path}: ${message}` : message))];
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
  for (const input of $$("[name]", form)) {
    if (errors.some(({ path }) => path === input.name)) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }
  if (n !== undefined) for (const place of $$("[data-n]", form)) place.textContent = n;
  return faults;
}

async function send(form, submitter) {
  const buttons = $$("button", form);
  buttons.forEach((button) => { button.disabled = true; });
  const answer = await post(form.dataset.send, fields(form, submitter)).catch(() => ({ error: "No connection to flowq: nothing was changed, or not yet known" }));
  buttons.forEach((button) => { button.disabled = false; });
  const faults = show(form, answer);
  if (faults.length) return say(faults.join("; "));
  form.closest("dialog")?.close();
  remembered("said", answer.said ?? "Done");
  if (answer.next && isLocal(answer.next)) location.assign(answer.next);
  else location.reload();
}

export function actions() {
  const done = remembered("said"); // what was done before the page came again
  if (done) setTimeout(say, 300, done);
  remembered("said", "");
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.dataset.send || event.submitter?.hasAttribute("formnovalidate")) return;
    event.preventDefault();
    send(form, event.submitter);
  });
  let waits;
  const check = async (form) => {
    const answer = await post(form.dataset.check, { ...fields(form), dry_run: true }).catch(() => ({}));
    const faults = show(form, answer), main = $("button.main", form);
    if (main) main.disabled = faults.length > 0;
  };
  document.addEventListener("input", ({ target }) => {
    const { form } = target;
    if (target.dataset.unlock && form) unlock(form);
    if (!form?.dataset.check) return;
    clearTimeout(waits);
    waits = setTimeout(check, CHECK_MS, form);
  });
  const unlock = (form) => {
    const open = $$("[data-unlock]", form).every(({ value, dataset }) => value === dataset.unlock);
    $$("button.danger", form).forEach((button) => { button.disabled = !open; });
  };
  document.addEventListener("click", ({ target }) => {
    const opener = target.closest("[data-open]"), dialog = opener && document.getElementById(opener.dataset.open);
    if (!dialog) return;
    dialog.showModal();
    for (const form of $$("form", dialog)) {
      if ($("[data-unlock]", form)) unlock(form);
      if (form.dataset.check) check(form);
    }
  });
  $$("dialog[data-show]").forEach((dialog) => dialog.showModal());
}
