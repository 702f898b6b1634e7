// The box in which a message is written, what goes with it, and the buttons that send and stop.
import { Chips } from "./chips.js";
import { Drafts } from "./drafts.js";
import { button, make } from "./elements.js";
import { Files } from "./files.js";
import { Popup } from "./popup.js";
import { Recall } from "./recall.js";

const HINT = "Enter sends, Shift+Enter makes a new line; @ names things, / commands";
const EDIT_HINT = "Enter asks the edited question; the old one is kept as a branch. Escape cancels";

export class Compose {
  constructor(panel) {
    this.panel = panel;
    this.sending = null; // the message that was sent and is not done yet
    this.editing = null; // the question that the next message replaces
    this.before = ""; // what was written before the edit began
    this.box = make("textarea", { rows: 1, placeholder: "Ask something…", "aria-label": "Message" });
    this.stop = button("Stop", () => panel.act("stop"), "piano-stop");
    this.stop.hidden = true;
    this.hint = make("span", { className: "piano-hint", textContent: HINT });
    this.files = new Files(panel, () => (this.chips.show(), this.drafts.changed()));
    this.chips = new Chips(this);
    this.popup = new Popup(panel, this.box, (item, start) => this.choose(item, start));
    this.recall = new Recall(panel, this.box, (text) => this.write(text));
    this.drafts = new Drafts(panel, this.files, {
      read: () => (this.editing ? this.before : this.box.value),
      write: (text) => (this.edit(null), this.write(text)),
    });
    this.node = this.build();
    this.box.oninput = () => this.onInput();
    this.box.onkeydown = (event) => this.onKey(event);
    this.box.onclick = () => this.popup.update();
    this.box.onblur = () => (this.popup.close(), this.drafts.save());
    this.files.listen(panel.root);
    this.isComposing = false; // with an input method, which a change of the text would break off
    this.box.addEventListener("compositionstart", () => (this.isComposing = true));
    this.box.addEventListener("compositionend", () => (this.isComposing = false));
    this.inSight = false; // as far as the last frame
    this.eyes = new IntersectionObserver((seen) => (this.inSight = seen.at(-1).intersectionRatio > 0.5), {
      threshold: [0, 0.5, 1],
    });
    this.eyes.observe(this.node);
  }

  build() {
    const attach = button("Attach", () => this.files.picker.click(), "piano-attach");
    attach.title = "Send images or text files along: they can be pasted and dropped, too";
    const send = make("button", { type: "submit", className: "piano-send", textContent: "Send" });
    const row = make("div", { className: "piano-row" }, attach, this.hint, this.stop, send);
    const form = make("form", {}, this.popup.node, this.chips.node, this.box, this.files.picker, row);
    form.onsubmit = (event) => (event.preventDefault(), this.submit());
    return form;
  }

  onInput() {
    this.grow();
    this.chips.show();
    this.popup.update();
    this.drafts.changed();
  }

  onKey(event) {
    if (this.popup.takeKey(event) || (!event.isComposing && this.recall.take(event))) {
      event.preventDefault();
      return;
    }
    if (event.key === "Escape" && this.editing) this.endEdit();
    if (event.key !== "Enter" || event.shiftKey || event.altKey) return;
    if (event.isComposing || event.keyCode === 229) return; // this Enter only confirms an input method
    event.preventDefault();
    this.submit();
  }

  // put text into the box in place of what is there
  write(text) {
    this.box.value = text;
    this.grow();
    this.chips.show();
    this.drafts.changed();
  }

  // do what was chosen in the list; its sign was written at `start`
  choose(item, start) {
    const { value, selectionStart: end } = this.box;
    const put = (text, [from, to] = [start, end]) => {
      this.write(value.slice(0, from) + text + value.slice(to));
      this.box.setSelectionRange(from + text.length, from + text.length);
    };
    if (item.kind === "command") {
      this.write("");
      item.run();
    } else if (item.kind === "agent") {
      this.write(item.inserts + value.slice(0, start) + value.slice(end)); // an agent is asked by its name at the start
    } else if (item.kind === "file") {
      put("");
      this.files.attach(item.inserts);
    } else if (item.kind === "folder") {
      put(`@${item.inserts}`);
      this.popup.enter(start, item.inserts);
    } else put(value.slice(end).startsWith("}}") ? item.inserts.slice(0, -2) : `${item.inserts} `);
  }

  submit() {
    const text = this.box.value;
    if (this.panel.reconnect.gone) return; // which is said above the box
    if (!text.trim()) {
      if (this.files.list.length) this.panel.showNotice("Write what to do with the files.");
      return;
    }
    if (this.files.arriving.length) {
      this.panel.showNotice(`${this.files.arriving[0].name} is still on its way to the kernel.`);
      return;
    }
    const edits = this.editing;
    const same = this.sending?.text === text && this.sending.edits === edits;
    const repeated = same ? this.sending.action : undefined; // the kernel must not do it twice
    if (same && !this.panel.link.isOverdue(repeated)) return;
    this.panel.log.toEnd();
    const files = this.files.list.map(({ key }) => key);
    const content = edits ? { about: text, message: edits } : { about: text, files };
    const action = this.panel.act(edits ? "edit" : "send", content, (error) => this.onSent(error, action), repeated);
    this.sending = { text, edits, files, action };
  }

  onSent(error, action) {
    if (this.sending?.action !== action) return; // the box belongs to a newer message
    if (this.isComposing)
      return this.box.addEventListener("compositionend", () => this.onSent(error, action), { once: true });
    const { text, edits, files } = this.sending;
    this.sending = null;
    if (error || this.editing !== edits) return;
    this.recall.reset();
    const rest = this.box.value.startsWith(text) ? this.box.value.slice(text.length).trimStart() : this.box.value;
    if (edits) {
      this.endEdit();
      if (rest) this.write([this.box.value, rest].filter(Boolean).join("\n"));
    } else {
      this.files.drop(files);
      this.write(rest);
    }
    this.drafts.save();
  }

  // write a new version of a question; null for a new message
  edit(key, text = "") {
    if (key && !this.editing) this.before = this.box.value;
    this.editing = key;
    this.panel.root.classList.toggle("piano-edits", Boolean(key));
    this.hint.textContent = key ? EDIT_HINT : HINT;
    if (!key) return;
    this.write(text);
    this.box.focus();
  }

  // go back to what was written before the edit
  endEdit() {
    this.edit(null);
    this.write(this.before);
  }

  grow() {
    this.box.style.height = "auto";
    this.box.style.height = `${this.box.scrollHeight + 2}px`;
  }

  // have the box and the list above it fit again into a panel of another size
  fit() {
    this.grow();
    if (this.popup.trigger) this.popup.show();
  }

  focus() {
    this.box.focus({ preventScroll: true });
  }

  // keep the box in sight while it is written in, unless somebody has scrolled away from it
  intoView() {
    if (this.inSight && document.activeElement === this.box) this.node.scrollIntoView({ block: "nearest" });
  }

  close() {
    this.drafts.close();
    this.eyes.disconnect();
  }
}
