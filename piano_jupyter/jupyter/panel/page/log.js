// The conversation: entries (a question; the work of one job) and their parts (texts, tool calls), as the kernel sends them.
import { actionButton, callNodes } from "./calls.js";
import { button, make } from "./elements.js";
import { appendText, showText } from "./text.js";

const STICKY_DISTANCE_PX = 48; // this close to the end, the log follows new messages
const ACTIVE = new Set(["queued", "loading", "thinking", "writing", "calling", "asking"]);
const ENTRY_ROWS = ["who", "said", "parts", "note", "can", "attachments"];

export class Log {
  constructor(panel) {
    this.panel = panel;
    this.nodes = new Map(); // entries and parts by key
    this.filling = null; // the number of the "all" that older entries still come for; null once all have come
    this.place = null; // where new entries go
    this.earlier = button("Show earlier messages", () => panel.act("earlier"), "piano-earlier");
    this.earlier.hidden = true;
    this.entries = make("div", { className: "piano-entries" });
    this.empty = make("p", { className: "piano-empty", textContent: "No messages yet. Ask something below.", hidden: true });
    this.node = make("div", { className: "piano-log", role: "log", tabIndex: 0 }, this.earlier, this.empty, this.entries);
  }

  // apply "all" or "changes"; the end stays in sight if it was, else what is read stays where it is
  applyAll({ kind, changes, busy, earlier, filling }) {
    const isFirst = this.nodes.size === 0;
    const wasAtEnd = this.isAtEnd();
    const below = this.node.scrollHeight - this.node.scrollTop;
    if (kind === "all") {
      this.nodes.clear();
      this.entries.replaceChildren();
      this.earlier.hidden = !earlier;
      this.filling = filling;
    }
    for (const change of changes) this.apply(change);
    this.node.setAttribute("aria-busy", busy);
    this.empty.hidden = this.entries.childElementCount > 0;
    if (wasAtEnd || isFirst) this.toEnd();
    else if (kind === "all") this.node.scrollTop = this.node.scrollHeight - below;
  }

  // put older entries before all others
  addOlder({ kind, changes, filling }) {
    if (filling !== this.filling) return; // of what is no longer shown
    if (kind === "complete") return (this.filling = null);
    const fragment = document.createDocumentFragment();
    this.place = fragment;
    for (const change of changes) this.apply(change);
    this.place = null;
    this.keepingItsEnd(() => this.entries.prepend(fragment));
  }

  apply(change) {
    if ("drop" in change) {
      this.nodes.get(change.drop)?.remove();
      this.nodes.delete(change.drop);
    } else if ("entry" in change) this.showEntry(change);
    else if ("stream" in change) appendText(this.nodes.get(change.stream), change);
    else if (change.kind === "text") showText(this, change);
    else this.showCall(change);
  }

  // the element that holds the parts of an entry
  partsOf(entry) {
    return this.nodes.get(entry)?.querySelector(".piano-parts");
  }

  showEntry(change) {
    const { entry: key, after, who, state, note, text, attachments, can } = change;
    const node = this.nodes.get(key) ?? this.addEntry(key, after);
    if (!node) return;
    const [name, said, , line, actions, attached] = node.children;
    if (node.dataset.state !== state && state !== "said") this.panel.announce(`${who}: ${note || state}`);
    node.dataset.state = state;
    node.classList.toggle("piano-mine", state === "said");
    node.setAttribute("aria-label", who);
    name.textContent = who;
    said.replaceChildren(...(change.said ?? [text]).map((part) => (typeof part === "string" ? part : inserted(part))));
    said.hidden = !text;
    if (attached.childElementCount !== attachments.length) attached.replaceChildren(...this.panel.attachments.nodes(attachments));
    actions.replaceChildren();
    if (can === "edit") actions.append(button("Edit", () => this.panel.compose.edit(key, text)));
    if (can === "regenerate") actions.append(actionButton(this.panel, "Ask again", "regenerate", key));
    this.showState(line, change);
  }

  // return a new entry; none if it belongs to what is still to come
  addEntry(key, after) {
    const before = after && this.nodes.get(after);
    if (after && !before && !this.place && this.filling !== null && this.nodes.size) return null;
    const node = make("article", { className: "piano-entry" });
    node.append(...ENTRY_ROWS.map((name) => make("div", { className: `piano-${name}` })));
    const place = this.place ?? this.entries;
    if (before && place.contains(before)) before.after(node);
    else if (after) place.append(node);
    else place.prepend(node);
    this.nodes.set(key, node);
    return node;
  }

  showState(line, { entry: key, state, note, fraction }) {
    line.replaceChildren();
    line.hidden = state === "said" || state === "done";
    if (line.hidden) return;
    line.append(make("span", { className: ACTIVE.has(state) ? "piano-dots" : "piano-mark", "aria-hidden": "true" }), note);
    if (fraction !== null) line.append(make("progress", { value: fraction, max: 1 }));
    if (state === "queued") line.append(actionButton(this.panel, "Cancel", "cancel", key));
    if (state === "failed" || state === "cancelled") line.append(actionButton(this.panel, "Retry", "retry", key));
  }

  showCall(change) {
    if (!this.partsOf(change.in)) return;
    const [node, shown] = callNodes(this.panel, change);
    const old = this.nodes.get(change.part);
    if (old) {
      node.open ||= old.open && old.dataset.state !== "asks";
      old.nextElementSibling?.replaceWith(shown);
      old.replaceWith(node);
    } else this.partsOf(change.in).append(node, shown);
    this.nodes.set(change.part, node);
  }

  isAtEnd() {
    return this.node.scrollHeight - this.node.scrollTop - this.node.clientHeight < STICKY_DISTANCE_PX;
  }

  toEnd() {
    this.node.scrollTop = this.node.scrollHeight;
    this.panel.compose.intoView();
  }

  // do something that changes heights; the end stays in sight if it was
  keepingItsEnd(work) {
    const atEnd = this.isAtEnd();
    work();
    if (atEnd) this.toEnd();
  }
}

function inserted([label, value]) {
  const shown = make("pre", { textContent: value });
  return make("details", { className: "piano-inserted" }, make("summary", { textContent: label }), shown);
}
