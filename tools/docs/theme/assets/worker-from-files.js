// Browsers start no workers on file:// addresses. There, the worker of the search runs in a hidden frame instead.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      this.inside = this.frame.contentWindow;
      this.inside.postMessage = (data) => setTimeout(() => this.onmessage?.({ data: structuredClone(data) }));
      const script = this.inside.document.createElement("script");
      this.loaded = new Promise((resolve) => (script.onload = resolve));
      script.src = new URL(url, location.href);
      this.inside.document.body.append(script);
    }
    postMessage(data) {
      const copy = structuredClone(data); // neither side may change what the other has
      this.loaded.then(() => this.inside.onmessage({ data: copy }));
    }
    terminate() {
      this.frame.remove();
    }
  };
}
