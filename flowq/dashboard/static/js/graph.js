// The graph: arrow keys go along its edges; a large one is dragged, zoomed, and moved by its map.
import { $, $$ } from "./live.js";

const place = (node) => { const { e, f } = node.transform.baseVal[0].matrix; return { x: e, y: f }; };

export function neighbour(node, key) {
  const [mine, other] = key === "ArrowRight" ? ["from", "to"] : ["to", "from"];
  if (key === "ArrowRight" || key === "ArrowLeft") {
    const line = $$(".line:not(.back)").find(({ dataset }) => dataset[mine] === node.dataset.stage);
    return line && $(`.node[data-stage="${CSS.escape(line.dataset[other])}"]`);
  }
  const here = place(node), down = key === "ArrowDown" ? 1 : -1;
  const below = (to) => (place(to).y - here.y) * down;
  return $$(".node").filter((to) => Math.abs(place(to).x - here.x) < 20 && below(to) > 0).sort((a, b) => below(a) - below(b))[0];
}

export class Window {
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
    const { all } = this, width = this.#sheet.clientWidth / this.#scale, height = this.#sheet.clientHeight / this.#scale;
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
      if (moved) addEventListener("click", (click) => click.preventDefault(), { once: true, capture: true });
    }, until);
  }

  move(x, y) { this.to(this.x + x / this.#scale, this.y + y / this.#scale); }
  show(node) { const { x, y } = place(node), box = node.getBBox(); this.to(x + box.width / 2, y + box.height / 2); }
  neck() { this.show($(".card[aria-current]")?.closest(".node") ?? $('.node[data-neck="yes"]') ?? $(".node")); }
  #whole() { return Math.min(this.#sheet.clientWidth / this.all.width, this.#sheet.clientHeight / this.all.height, 1); }
  zoom(by) { this.#scale = Math.min(1.6, Math.max(this.#whole(), this.#scale * by)); this.move(0, 0); }
  fit() { this.#scale = this.#whole(); this.move(0, 0); }
}
