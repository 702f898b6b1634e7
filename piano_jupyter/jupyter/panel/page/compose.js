// The box in which a message is written, and the buttons that send and stop.
import { button, make } from "./elements.js";

const HINT = "Enter sends, Shift+Enter makes a new line";
const EDIT_HINT = "Enter asks the edited question; the old one is kept as a branch. Escape cancels";

export class Compose {
  constructor(panel) {
    this.panel = panel;
    this.sending = null; // the message that was sent and is not done yet
    this.editing = null; // the question that the next message replaces
    this.box = make("textarea", { rows: 1, placeholder: "Ask something…", "aria-label": "Message" });
    this.stop = button("Stop", () => panel.act("stop"), "piano-stop");
    this.stop.hidden = true;
    this.hint = make("span", { className: "piano-hint", textContent: HINT });
    const send = make("button", { type: "submit", className: "piano-send", textContent: "Send" });
    this.node = make("form", {}, this.box, make("div", { className: "piano-row" }, this.hint, this.stop, send));
    this.node.onsubmit = (event) => (event.preventDefault(), this.submit());
    this.box.oninput = () => this.grow();
    this.box.onkeydown = (event) => this.onKey(event);
  }

  onKey(event) {
    if (event.key === "Escape" && this.editing) this.edit(null);
    if (event.key !== "Enter" || event.shiftKey || event.altKey) return;
    if (event.isComposing || event.keyCode === 229) return; // this Enter only confirms an input method
    event.preventDefault();
    this.submit();
  }

  submit() {
    const text = this.box.value;
    if (!text.trim()) return;
    const edits = this.editing;
    const same = this.sending?.text === text && this.sending.edits === edits;
    const repeated = same ? this.sending.action : undefined; // the kernel must not do it twice
    if (same && this.panel.overdue !== repeated) return;
    this.panel.log.toEnd();
    const content = edits ? { about: text, message: edits } : { about: text };
    const action = this.panel.act(edits ? "edit" : "send", content, (error) => this.onSent(error, action), repeated);
    this.sending = { text, edits, action };
  }

  onSent(error, action) {
    if (this.sending?.action !== action) return; // the box belongs to a newer message
    const { text, edits } = this.sending;
    this.sending = null;
    if (error || this.editing !== edits) return;
    this.edit(null);
    if (!this.box.value.startsWith(text)) return;
    this.box.value = this.box.value.slice(text.length).trimStart();
    this.grow();
  }

  // write a new version of a question; null for a new message
  edit(key, text = "") {
    this.editing = key;
    this.panel.root.classList.toggle("piano-edits", Boolean(key));
    this.hint.textContent = key ? EDIT_HINT : HINT;
    if (!key) return;
    this.box.value = text;
    this.grow();
    this.box.focus();
  }

  grow() {
    this.box.style.height = "auto";
    this.box.style.height = `${this.box.scrollHeight + 2}px`;
  }

  focus() {
    this.box.focus({ preventScroll: true });
  }

  // keep the box in sight while it is written in
  intoView() {
    if (document.activeElement === this.box) this.node.scrollIntoView({ block: "nearest" });
  }
}
