// The list that opens while one writes: @ names agents, variables, cells, the last error and files, / names commands.
import { commands } from "./commands.js";
import { make } from "./elements.js";

const REST_MS = 150; // before the kernel is asked for another folder
const SLOW_MS = 400; // without a reply the kernel is busy
const MAX_SHOWN = 60;
const TRIGGERS = [
  { sign: "/", pattern: /^\/(\w*)$/, kinds: new Set(["command"]) },
  {
    sign: "@",
    pattern: /(?:^|\s)@([^\s@]*)$/,
    kinds: new Set(["agent", "error", "variable", "cell", "folder", "file"]),
  },
  { sign: "{{", pattern: /\{\{([^{}]*)$/, kinds: new Set(["error", "variable", "cell"]) },
];
const [, FILES] = TRIGGERS;
const BUSY = "Variables and cells will follow: the kernel is busy";
const KINDS = {
  error: "error",
  variable: "variable",
  cell: "cell",
  folder: "folder",
  file: "file",
  agent: "agent",
  command: "",
};

export class Popup {
  // `choose(item, start)` does what an item means; `start` is where its sign was written
  constructor(panel, box, choose) {
    Object.assign(this, { panel, box, choose });
    this.node = make("div", { className: "piano-popup", role: "listbox", "aria-label": "Suggestions", hidden: true });
    this.node.onmousedown = (event) => event.preventDefault(); // the box keeps the focus
    this.node.id = `piano-popup-${panel.link.page}`;
    this.close();
  }

  close() {
    clearTimeout(this.timer);
    clearTimeout(this.slow);
    this.trigger = null; // what is being written: its sign, start and text
    this.folder = ""; // whose files are known
    this.offered = []; // what the kernel has offered
    this.waits = false; // for the variables
    this.node.hidden = true;
    this.box.removeAttribute("aria-activedescendant");
  }

  // go on in a folder that was chosen, whose name may have spaces
  enter(start, name) {
    this.entered = { start, path: `@${name}` };
    this.update();
  }

  // look at what is written, after each change of it
  update() {
    const before = this.box.value.slice(0, this.box.selectionStart);
    const found = this.box.selectionStart === this.box.selectionEnd && (this.inFolder(before) ?? triggerOf(before));
    if (!found) {
      this.dismissed = null;
      if (this.trigger) this.close();
      return;
    }
    if (this.dismissed === found.start) return;
    const isNew = this.trigger?.start !== found.start || this.trigger.sign !== found.sign;
    if (isNew) this.close();
    this.trigger = found;
    this.at = 0;
    this.moved = false; // to another than the best
    if (isNew && found.sign !== "/") this.askKernel();
    this.askFolder();
    this.show();
  }

  inFolder(before) {
    const { start, path } = this.entered ?? {};
    if (this.entered && before.startsWith(path, start) && !/[\n@]/.test(before.slice(start + 1)))
      return { ...FILES, text: before.slice(start + 1), start };
    this.entered = null;
    return null;
  }

  askKernel() {
    this.slow = setTimeout(() => {
      this.waits = true;
      this.show();
    }, SLOW_MS);
    const { start } = this.trigger;
    const take = (items) => this.take(start, items);
    if (this.trigger.sign === "@") this.panel.link.ask("suggest").then(take, () => {});
    this.panel.link.ask("suggest_names").then(
      (items) => {
        if (this.trigger?.start !== start) return;
        clearTimeout(this.slow);
        this.waits = false;
        take(items);
      },
      () => {}, // the kernel is busy, which is said
    );
  }

  // the files of the folder that is being written
  askFolder() {
    const folder = this.trigger.sign === "@" ? this.trigger.text.slice(0, this.trigger.text.lastIndexOf("/") + 1) : "";
    clearTimeout(this.timer);
    if (folder === this.folder || !folder) return;
    this.timer = setTimeout(() => {
      const { start } = this.trigger;
      this.folder = folder;
      this.panel.link.ask("suggest", { about: folder }).then(
        (items) => this.take(start, items),
        () => {},
      );
    }, REST_MS);
  }

  take(start, items) {
    if (this.trigger?.start !== start) return; // it was closed meanwhile
    const chosen = this.moved && this.matching()[this.at]?.name;
    const known = new Set(this.offered.map(({ kind, name }) => `${kind} ${name}`));
    this.offered = [...this.offered, ...items.filter(({ kind, name }) => !known.has(`${kind} ${name}`))];
    this.at = Math.max(
      0,
      this.matching().findIndex(({ name }) => name === chosen),
    );
    this.show();
  }

  // what matches, the best first
  matching() {
    const { text, kinds, sign } = this.trigger;
    const wanted = text.trim().toLowerCase();
    const order = [...kinds];
    const rank = ({ name, about }) => {
      const at = name.toLowerCase().indexOf(wanted);
      if (at === 0) return 0;
      return at > 0 ? 1 : about.toLowerCase().includes(wanted) ? 2 : 3;
    };
    return (sign === "/" ? commands(this.panel) : this.offered)
      .filter((item) => kinds.has(item.kind) && rank(item) < 3 && !(item.kind === "folder" && item.name === text))
      .toSorted((a, b) => rank(a) - rank(b) || order.indexOf(a.kind) - order.indexOf(b.kind))
      .slice(0, MAX_SHOWN);
  }

  show() {
    const items = this.matching();
    this.at = Math.min(this.at, Math.max(items.length - 1, 0));
    const rows = items.map((item, index) => this.row(item, index));
    if (this.waits) rows.push(make("div", { className: "piano-popup-note", textContent: BUSY }));
    this.node.replaceChildren(...rows);
    this.node.hidden = !rows.length;
    this.node.style.maxHeight = `${Math.max(this.room(), 60)}px`;
    this.mark();
  }

  row({ kind, name, about }, index) {
    const row = make(
      "div",
      { className: "piano-option", role: "option", id: `${this.node.id}-${index}` },
      make("span", { className: "piano-option-kind", textContent: KINDS[kind] }),
      make("span", { className: "piano-option-name", textContent: kind === "command" ? `/${name}` : name }),
      make("span", { className: "piano-option-about", textContent: about }),
    );
    row.onmousedown = () => {
      this.at = index;
      this.takeChosen();
    };
    return row;
  }

  // above the box, within the panel
  room() {
    const form = this.node.parentElement.getBoundingClientRect();
    return form.top - this.panel.root.getBoundingClientRect().top - 6;
  }

  mark() {
    [...this.node.querySelectorAll(".piano-option")].forEach((row, index) => {
      row.setAttribute("aria-selected", index === this.at);
      if (index !== this.at) return;
      row.scrollIntoView({ block: "nearest" });
      this.box.setAttribute("aria-activedescendant", row.id);
    });
  }

  // take a key; return whether it was one for the list
  takeKey(event) {
    if (this.node.hidden || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return false;
    const items = this.matching();
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") {
      this.dismissed = this.trigger.start;
      this.close();
    } else if (step && items.length) {
      this.at = (this.at + step + items.length) % items.length;
      this.moved = true;
      this.mark();
    } else if ((event.key === "Enter" || event.key === "Tab") && !event.shiftKey && items.length) this.takeChosen();
    else return false;
    return true;
  }

  takeChosen() {
    const item = this.matching()[this.at];
    const { start } = this.trigger;
    this.close();
    this.choose(item, start);
  }
}

function triggerOf(before) {
  for (const { sign, pattern, kinds } of TRIGGERS) {
    const found = pattern.exec(before);
    if (found) return { sign, kinds, text: found[1], start: before.length - found[1].length - sign.length };
  }
  return null;
}
