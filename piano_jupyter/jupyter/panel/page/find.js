// Find in the conversation: Ctrl+F or Cmd+F while the focus is in the panel.
import { button, make } from "./elements.js";

const NAMES = ["piano-found", "piano-found-now"]; // of the highlights that panel.css colours
const NOT_SEARCHED = "button, .piano-branch, .piano-elapsed, .piano-mine > .piano-who, [hidden]"; // the last but one is unseen
const MAX_FOUND = 1000;
const REFRESH_MS = 300; // between two searches that nobody has asked for: a long conversation changes often

export class Find {
  constructor(panel) {
    this.panel = panel;
    this.ranges = [];
    this.at = -1;
    this.box = make("input", {
      type: "search",
      className: "piano-find-box",
      placeholder: "Find in this thread",
      "aria-label": "Find in this thread",
    });
    this.count = make("span", { className: "piano-find-count", role: "status" });
    this.earlier = button("Search earlier messages", () => this.searchEarlier(), "piano-quiet");
    const step = (label, name, by) =>
      Object.assign(
        button(label, () => this.step(by), "piano-quiet"),
        { ariaLabel: name, title: name },
      );
    const steps = [step("↑", "Previous match", -1), step("↓", "Next match", 1)];
    const close = Object.assign(
      button("×", () => this.hide(), "piano-quiet"),
      { ariaLabel: "Close the search" },
    );
    this.node = make(
      "div",
      { className: "piano-find", role: "search", hidden: true },
      this.box,
      this.count,
      ...steps,
      this.earlier,
      close,
    );
    this.box.oninput = () => this.search();
    this.node.onkeydown = (event) => this.onKey(event);
    this.onShortcut = (event) => this.shortcut(event);
    panel.root.addEventListener("keydown", this.onShortcut);
  }

  close() {
    clearTimeout(this.timer);
    this.clear();
  }

  shortcut(event) {
    if (!isFindShortcut(event)) return;
    event.preventDefault();
    event.stopPropagation(); // the front end has a search of its own
    this.node.hidden = false;
    this.box.select();
    this.box.focus();
    this.search();
  }

  onKey(event) {
    if (event.isComposing) return;
    if (event.key === "Escape") this.hide();
    else if (event.key === "Enter" && event.target === this.box) this.step(event.shiftKey ? -1 : 1);
    else return;
    event.preventDefault();
  }

  hide() {
    this.clear();
    this.node.hidden = true;
    this.panel.compose.focus();
  }

  // look again soon, since the conversation has changed
  refresh() {
    this.earlier.hidden = this.panel.log.earlier.hidden;
    if (this.node.hidden || !this.box.value) return;
    this.timer ??= setTimeout(() => {
      this.timer = null;
      if (!this.node.hidden) this.search(Math.max(this.at, 0)); // without scrolling
    }, REFRESH_MS);
  }

  // the match that was shown is found by its place in the text, where that is still there
  search(at = -1) {
    const shown = this.ranges[at];
    this.clear();
    const wanted = lowerCase(this.box.value);
    if (wanted) for (const entry of this.panel.log.entries.children) this.addMatches(entry, wanted);
    this.earlier.hidden = this.panel.log.earlier.hidden;
    const again = this.ranges.findIndex((each) => shown && isSamePlace(each, shown));
    this.at = again < 0 ? Math.min(at, this.ranges.length - 1) : again;
    for (const range of this.ranges) highlight(NAMES[0])?.add(range);
    if (at < 0 && this.ranges.length) this.step(1);
    else this.show(false);
  }

  addMatches(entry, wanted) {
    const nodes = [];
    const starts = [];
    let text = "";
    const walker = document.createTreeWalker(entry, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const { currentNode: node } = walker;
      if (node.parentElement.closest(NOT_SEARCHED)) continue;
      nodes.push(node);
      starts.push(text.length);
      text += node.data;
    }
    const lower = lowerCase(text);
    for (
      let i = lower.indexOf(wanted);
      i >= 0 && this.ranges.length < MAX_FOUND;
      i = lower.indexOf(wanted, i + wanted.length)
    )
      this.ranges.push(rangeOf(nodes, starts, i, i + wanted.length));
  }

  step(by) {
    const { length } = this.ranges;
    if (length) this.at = this.at < 0 ? (by > 0 ? 0 : length - 1) : (this.at + by + length) % length;
    this.show(true);
  }

  show(scroll) {
    const { length } = this.ranges;
    const shown = length === MAX_FOUND ? `${MAX_FOUND}+` : length;
    const said = !this.box.value ? "" : length ? `${this.at + 1} of ${shown}` : "nothing found";
    if (this.count.textContent !== said) this.count.textContent = said; // else it would be read out again
    this.forget(1);
    const range = this.ranges[this.at];
    if (!range) return;
    const marked = highlight(NAMES[1]);
    marked?.add(range);
    if (!scroll) return;
    const element = range.startContainer.parentElement;
    for (let node = element; node && node !== this.panel.root; node = node.parentElement)
      if (node.tagName === "DETAILS") node.open = true;
    element.scrollIntoView({ block: "nearest" });
    if (!marked)
      getSelection().setBaseAndExtent(range.startContainer, range.startOffset, range.endContainer, range.endOffset);
  }

  // have the kernel look in the messages before those shown, and show them from the one in which it found the text
  searchEarlier() {
    const done = (error, found) => {
      if (error) return;
      if (!found) this.count.textContent = "not in earlier messages";
    };
    this.panel.act("find_earlier", { about: this.box.value }, done);
  }

  clear() {
    this.forget(0);
    this.forget(1);
    this.ranges = [];
    this.at = -1;
  }

  forget(which) {
    const shown = highlight(NAMES[which]);
    for (const range of this.ranges) shown?.delete(range);
  }
}

// in lower case, each letter in its place: İ alone would become two
function lowerCase(text) {
  return text.replaceAll("İ", "i").toLowerCase();
}

function isSamePlace(range, { startContainer, startOffset }) {
  return range.startContainer === startContainer && range.startOffset === startOffset;
}

// the highlight of this name, which all panels share; undefined where the browser has none
function highlight(name) {
  if (!globalThis.CSS?.highlights) return undefined;
  if (!CSS.highlights.has(name)) CSS.highlights.set(name, new Highlight());
  return CSS.highlights.get(name);
}

function rangeOf(nodes, starts, from, to) {
  const range = document.createRange();
  const first = starts.findLastIndex((start) => start <= from);
  const last = starts.findLastIndex((start) => start < to);
  range.setStart(nodes[first], from - starts[first]);
  range.setEnd(nodes[last], to - starts[last]);
  return range;
}

export function isFindShortcut({ ctrlKey, metaKey, altKey, shiftKey, key }) {
  return (ctrlKey || metaKey) && !altKey && !shiftKey && key.toLowerCase() === "f";
}
