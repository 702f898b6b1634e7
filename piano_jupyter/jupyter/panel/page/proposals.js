// Cells that an agent proposes: marked in the notebook, and listed here until they are kept or discarded.
//
// A proposed cell has the tag "piano-proposed"; "piano" in its metadata says which cell it would replace.
import { button, make, named, shortName } from "./elements.js";
import { keepingFocus } from "./renewed.js";

const TAG = "piano-proposed";

export class Proposals {
  constructor(panel) {
    this.panel = panel;
    this.expected = null; // the code that the front end will put into a new cell by itself, and what it replaces
    this.title = make("span", { className: "piano-proposed-count" });
    const keepAll = button("Keep all", () => this.each((cell) => this.keep(cell)), "piano-quiet");
    const discardAll = button("Discard all", () => this.each((cell) => this.discard(cell)), "piano-quiet");
    this.list = make("ul");
    const head = make("div", { className: "piano-row" }, this.title, discardAll, keepAll);
    this.node = make(
      "section",
      { className: "piano-proposals", hidden: true, "aria-label": "Proposed cells" },
      head,
      this.list,
    );
    this.onChange = () => panel.press.after(() => this.update());
    this.cells = panel.notebook.use((notebook) => notebook.cells);
    this.cells?.changed.connect(this.onChange);
    this.observer = new MutationObserver(() => this.mark()); // a cell is shown only while it is in sight
    requestAnimationFrame(this.onChange);
  }

  close() {
    this.observer.disconnect();
    this.cells?.changed.disconnect(this.onChange);
  }

  // add a cell, marked as proposed; return whether that worked
  add({ code, replaces }) {
    const metadata = { tags: [TAG], piano: this.about(replaces) };
    return this.panel.notebook.addCell({ code, metadata });
  }

  // mark the cell with this code that the front end adds by itself, where no extension does that
  expect({ code, replaces }) {
    if (this.panel.notebook.hasExtension) return;
    this.expected = { code, about: this.about(replaces) };
    this.update();
  }

  about(source) {
    const replaced = source && this.all().find((cell) => cell.sharedModel.getSource().trim() === source.trim());
    return replaced ? { replaces: replaced.id } : {};
  }

  all() {
    return this.cells ? [...this.cells] : [];
  }

  proposed() {
    return this.all().filter((cell) => cell.getMetadata("tags")?.includes(TAG));
  }

  each(work) {
    for (const cell of this.proposed()) work(cell);
  }

  replaced(cell) {
    const id = cell.getMetadata("piano")?.replaces;
    return id && this.all().find((each) => each.id === id);
  }

  // drop the mark; the cell that it replaces goes
  keep(cell) {
    const old = this.replaced(cell);
    const tags = cell.getMetadata("tags").filter((tag) => tag !== TAG);
    if (tags.length) cell.setMetadata("tags", tags);
    else cell.deleteMetadata("tags");
    cell.deleteMetadata("piano");
    if (old) this.remove(old);
    this.update();
  }

  keepAndRun(cell) {
    this.keep(cell);
    this.panel.showNotice(this.panel.notebook.run(cell.id));
  }

  discard(cell) {
    this.remove(cell);
    this.update();
  }

  remove(cell) {
    this.panel.notebook.use((notebook) => notebook.sharedModel.deleteCell(this.all().indexOf(cell)));
  }

  takeExpected() {
    const { code, about } = this.expected ?? {};
    const isIt = (cell) => !cell.getMetadata("tags")?.includes(TAG) && cell.executionCount === null;
    const found = this.expected && this.all().find((cell) => isIt(cell) && cell.sharedModel.getSource() === code);
    if (!found) return;
    this.expected = null;
    found.setMetadata("tags", [...(found.getMetadata("tags") ?? []), TAG]);
    found.setMetadata("piano", about);
  }

  update() {
    this.takeExpected();
    const cells = this.proposed();
    const had = this.node.contains(document.activeElement);
    this.node.hidden = !cells.length;
    this.title.textContent = `${cells.length} proposed cell${cells.length === 1 ? "" : "s"}; none runs by itself`;
    const isKept = keepingFocus(this.node, () => this.list.replaceChildren(...cells.map((cell) => this.row(cell))));
    if (had && !(isKept && cells.length)) (this.list.querySelector("button") ?? this.panel.compose.box).focus();
    this.mark();
    this.watch(cells.length > 0);
  }

  row(cell) {
    const source = cell.sharedModel.getSource();
    const first = shortName(source);
    const act = (label, work) => {
      const node = named(button(label, work, "piano-quiet"), source);
      node.dataset.key = `${label} ${cell.id}`;
      return node;
    };
    const show = button(
      first,
      () => this.panel.notebook.node(cell.id)?.scrollIntoView({ block: "center" }),
      "piano-proposed-code",
    );
    show.ariaLabel = `Show the proposed cell: ${first}`;
    const old = this.replaced(cell);
    const about = make("span", { className: "piano-proposed-about" });
    const place = old?.executionCount ? `[${old.executionCount}]` : "above";
    if (old) about.textContent = `replaces cell ${place}: ${shortName(old.sharedModel.getSource())}`;
    const buttons = [
      act("Discard", () => this.discard(cell)),
      act("Keep and run", () => this.keepAndRun(cell)),
      act("Keep", () => this.keep(cell)),
    ];
    return make("li", {}, make("div", { className: "piano-proposed-what" }, show, about), ...buttons);
  }

  mark() {
    const ids = new Set(this.proposed().map((cell) => cell.id));
    const cells = this.all();
    for (const [i, node] of this.panel.notebook.nodes().entries()) node?.classList.toggle(TAG, ids.has(cells[i]?.id));
  }

  watch(wanted) {
    this.observer.disconnect();
    const place = wanted && this.panel.notebook.nodes().find(Boolean)?.parentElement;
    if (place) this.observer.observe(place, { childList: true });
  }
}
