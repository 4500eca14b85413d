// The graph: arrow keys go along its edges. A large one is a window that is dragged, zoomed, and moved by its map.
import { $, $$ } from "./live.js";

const place = (node) => { const { e, f } = node.transform.baseVal.consolidate().matrix; return { x: e, y: f }; };

export function neighbour(node, key) {
  const name = node.dataset.stage;
  if (key === "ArrowRight" || key === "ArrowLeft") {
    const [mine, other] = key === "ArrowRight" ? ["from", "to"] : ["to", "from"];
    const line = $$(".line:not(.back)").find(({ dataset }) => dataset[mine] === name);
    return line && $(`.node[data-stage="${CSS.escape(line.dataset[other])}"]`);
  }
  const here = place(node), way = key === "ArrowDown" ? 1 : -1;
  return $$(".node").map((other) => ({ other, ...place(other) }))
    .filter(({ x, y }) => Math.abs(x - here.x) < 20 && (y - here.y) * way > 0)
    .sort((a, b) => (a.y - b.y) * way)[0]?.other;
}

export class Window {
  #svg = $(".graph.large");
  #sheet = $("#sheet");
  #map = $("#minimap");
  #scale = 1;

  constructor() {
    const { x, y, width, height } = this.#svg.viewBox.baseVal;
    this.all = { x, y, width, height };
    this.middle = { x: x + width / 2, y: y + height / 2 };
    this.#sheet.classList.add("moves");
    this.#sheet.addEventListener("pointerdown", (event) => { if (!event.button) this.#drag(event); });
    this.#sheet.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      this.zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15);
    }, { passive: false });
    this.#sheet.addEventListener("focusin", ({ target }) => { if (target.matches(".card:focus-visible")) this.show(target.closest(".node")); });
    this.#map?.addEventListener("pointerdown", (event) => this.#point(event));
    this.#map?.addEventListener("pointermove", (event) => { if (event.buttons & 1) this.#point(event); });
    new ResizeObserver(() => this.#draw()).observe(this.#sheet);
    this.#draw();
    this.neck();
  }

  #draw() {
    const { all, middle } = this, width = this.#sheet.clientWidth / this.#scale, height = this.#sheet.clientHeight / this.#scale;
    const within = (value, from, size, seen) =>
      (seen >= size ? from + size / 2 : Math.min(Math.max(value, from + seen / 2), from + size - seen / 2));
    this.middle = { x: within(middle.x, all.x, all.width, width), y: within(middle.y, all.y, all.height, height) };
    const box = { x: this.middle.x - width / 2, y: this.middle.y - height / 2, width, height };
    this.#svg.setAttribute("viewBox", Object.values(box).map(Math.round).join(" "));
    this.#svg.classList.toggle("far", this.#scale < 0.6); // names could not be read: colours only
    const lens = $("#lens");
    for (const [name, value] of Object.entries(box)) lens?.setAttribute(name, Math.round(value));
  }

  #drag(down) {
    const from = this.middle;
    let moved = false;
    const move = ({ clientX, clientY }) => {
      const x = clientX - down.clientX, y = clientY - down.clientY;
      moved ||= Math.hypot(x, y) > 4;
      if (moved) this.to(from.x - x / this.#scale, from.y - y / this.#scale);
    };
    const end = () => {
      removeEventListener("pointermove", move);
      removeEventListener("pointercancel", end);
      if (moved) this.#sheet.addEventListener("click", (click) => click.preventDefault(), { once: true, capture: true });
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", end, { once: true });
    addEventListener("pointercancel", end, { once: true });
  }

  #point({ clientX, clientY }) {
    const { x, y } = new DOMPoint(clientX, clientY).matrixTransform(this.#map.getScreenCTM().inverse());
    this.to(x, y);
  }

  to(x, y) { this.middle = { x, y }; this.#draw(); }
  move(x, y) { this.to(this.middle.x + x / this.#scale, this.middle.y + y / this.#scale); }
  show(node) { const { x, y } = place(node), box = node.getBBox(); this.to(x + box.width / 2, y + box.height / 2); }
  neck() { const node = $('.node[data-neck="yes"]') ?? $(".node .card[aria-current]")?.closest(".node") ?? $(".node"); if (node) this.show(node); }
  #whole() { return Math.min(this.#sheet.clientWidth / this.all.width, this.#sheet.clientHeight / this.all.height, 1); }
  zoom(by) { this.#scale = Math.min(1.6, Math.max(this.#whole(), this.#scale * by)); this.#draw(); }
  fit() { this.#scale = this.#whole(); this.#draw(); }
}
