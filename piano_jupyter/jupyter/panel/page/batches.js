// The batches that run, in any notebook of the workspace: a line each above the box, with a bar and a button that cancels.
import { button, make, named } from "./elements.js";

const PAUSE_MS = 500; // the least time between two looks at what runs
const CHECK_MS = 10_000; // without news, such as when a kernel was killed, this long after the last look

export class Batches {
  constructor(panel) {
    this.panel = panel;
    this.node = make("section", { className: "piano-batches", hidden: true, "aria-label": "Batches that run" });
    this.lines = new Map(); // by the id of the batch
    this.timer = null; // of the next look
    this.isAsking = false;
    this.asksAgain = false; // there was news since the last look
  }

  onNews({ topics }) {
    if (topics.includes("batches")) this.load();
  }

  // look what runs, soon: many events become one look
  load() {
    if (this.isAsking) {
      this.asksAgain = true;
      return;
    }
    this.isAsking = true;
    this.restAfter(CHECK_MS); // should no reply come
    this.panel.link.tell("batches", {}, ({ reply }) => {
      this.restAfter(PAUSE_MS);
      if (reply) this.panel.press.after(() => this.show(reply));
    });
  }

  restAfter(pause) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.rest(), pause);
  }

  rest() {
    this.isAsking = false;
    if (this.asksAgain) this.load();
    else if (this.lines.size) this.timer = setTimeout(() => this.load(), CHECK_MS);
    this.asksAgain = false;
  }

  show(running) {
    const had = this.node.contains(document.activeElement);
    const gone = new Set(this.lines.keys());
    for (const batch of running) {
      gone.delete(batch.id);
      if (!this.lines.has(batch.id)) this.add(batch);
      const { bar, text } = this.lines.get(batch.id);
      bar.value = batch.fraction;
      text.textContent = batch.text;
      text.title = batch.about;
    }
    for (const id of gone) {
      this.lines.get(id).node.remove();
      this.lines.delete(id);
    }
    this.node.hidden = !this.lines.size;
    if (had && !this.node.contains(document.activeElement)) this.panel.compose.focus();
  }

  add({ id, name }) {
    const bar = make("progress", { max: 1, "aria-label": name });
    const text = make("span", { className: "piano-batch-text" });
    const cancel = named(
      button("Cancel", () => this.panel.act("cancel_batch", { about: name }, () => this.load()), "piano-quiet"),
      name,
    );
    const node = make("div", { className: "piano-batch" }, make("b", { textContent: name }), bar, text, cancel);
    this.lines.set(id, { node, bar, text });
    this.node.append(node);
  }

  close() {
    clearTimeout(this.timer);
    this.isAsking = true; // and no other look
  }
}
