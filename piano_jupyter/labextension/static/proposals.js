// Cells that an agent proposes: marked in the notebook, whether or not a chat panel is open, with buttons to keep, to run
// and to discard them. Nothing runs by itself.
//
// A proposed cell has a tag; "piano" in its metadata says which cell it would replace. A cell that the front end itself
// puts below a running one has no metadata: the kernel says by a comm, which no file can hold, which code to expect.
const TAG = "piano-proposed";
const TARGET = "piano-jupyter:proposed"; // of the comm
const MAX_NAME_CHARS = 40; // of a cell in the name of a button

const tagsOf = (cell) => cell.getMetadata("tags") ?? [];
const isProposed = (cell) => tagsOf(cell).includes(TAG);
const sourceOf = (cell) => cell.sharedModel.getSource();

function shortName(source) {
  const [first] = source.trim().split("\n", 1);
  return first.length > MAX_NAME_CHARS ? `${first.slice(0, MAX_NAME_CHARS).replace(/[\ud800-\udbff]$/, "")}…` : first;
}

export default async (shared) => {
  const { NotebookActions } = await shared("@jupyterlab/notebook");

  // the proposed cells of one notebook
  class Proposals {
    constructor({ content, sessionContext }) {
      Object.assign(this, { notebook: content, sessionContext, expected: null });
      this.cells = content.model.cells;
      this.cells.changed.connect(this.onChange, this);
      this.onChange();
    }

    onChange() {
      // once each, however often it is said
      for (const cell of this.cells) {
        cell.metadataChanged.connect(this.show, this);
        cell.stateChanged.connect(this.show, this);
      }
      this.takeExpected();
      requestAnimationFrame(() => this.show()); // when the front end has made the elements of new cells
    }

    // mark the cell with this code once it is there
    expect({ code, replaces }) {
      const isReplaced = (cell) => replaces && sourceOf(cell).trim() === replaces.trim();
      this.expected = { code, replaced: [...this.cells].find(isReplaced)?.id };
    }

    takeExpected() {
      const { code, replaced } = this.expected ?? {};
      const isIt = (cell) => !isProposed(cell) && cell.executionCount === null && sourceOf(cell) === code;
      const found = this.expected && [...this.cells].find(isIt);
      if (!found) return;
      this.expected = null;
      found.setMetadata("tags", [...tagsOf(found), TAG]);
      found.setMetadata("piano", replaced ? { replaces: replaced } : {});
    }

    show() {
      if (this.notebook.isDisposed) return;
      for (const { model, node } of this.notebook.widgets) {
        const row = node.querySelector(":scope > .piano-proposal");
        node.classList.toggle(TAG, isProposed(model));
        if (!isProposed(model)) row?.remove();
        else if (!row) node.append(this.row(model));
        else row.firstChild.textContent = this.about(model);
      }
    }

    replacedBy(cell) {
      const id = cell.getMetadata("piano")?.replaces;
      return id && [...this.cells].find((each) => each.id === id);
    }

    about(cell) {
      const old = this.replacedBy(cell);
      const which = old?.executionCount ? `[${old.executionCount}]` : "above";
      const state = cell.executionCount === null ? "Proposed; it has not run." : "Proposed; you have run it.";
      return `${state}${old ? ` It replaces cell ${which}: ${shortName(sourceOf(old))}` : ""}`;
    }

    row(cell) {
      const name = shortName(sourceOf(cell));
      const row = document.createElement("div");
      const text = document.createElement("span");
      row.className = "piano-proposal";
      row.setAttribute("role", "group");
      row.setAttribute("aria-label", `Proposed cell: ${name}`);
      text.textContent = this.about(cell);
      const button = (label, work) => {
        const made = document.createElement("button");
        Object.assign(made, { type: "button", className: "piano-button", textContent: label, onclick: work });
        made.setAttribute("aria-label", `${label}: ${name}`);
        made.dataset.lmSuppressShortcuts = "true"; // d d would delete the cell
        return made;
      };
      row.append(
        text,
        button("Keep", () => this.keep(cell)),
        button("Keep and run", () => this.keepAndRun(cell)),
        button("Discard", () => this.discard(cell)),
      );
      return row;
    }

    // drop the mark; the cell that it replaces goes
    keep(cell) {
      const old = this.replacedBy(cell);
      const tags = tagsOf(cell).filter((each) => each !== TAG);
      if (tags.length) cell.setMetadata("tags", tags);
      else cell.deleteMetadata("tags");
      cell.deleteMetadata("piano");
      if (old) this.remove(old);
      this.select([...this.cells].indexOf(cell));
    }

    keepAndRun(cell) {
      this.keep(cell);
      const shown = this.notebook.widgets.find(({ model }) => model === cell);
      NotebookActions.runCells(this.notebook, [shown], this.sessionContext);
    }

    discard(cell) {
      const at = [...this.cells].indexOf(cell);
      this.remove(cell);
      this.select(Math.max(at - 1, 0));
    }

    remove(cell) {
      this.notebook.model.sharedModel.deleteCell([...this.cells].indexOf(cell));
    }

    select(index) {
      this.notebook.activeCellIndex = index;
      this.notebook.activate();
    }
  }

  return {
    id: "piano-jupyter:proposals",
    description: "Marks the cells that an agent proposes, with buttons to keep, run and discard them.",
    autoStart: true,
    activate: ({ docRegistry }) => {
      docRegistry.addWidgetExtension("Notebook", {
        createNew: (panel, context) => {
          const proposals = context.ready.then(() => (panel.isDisposed ? null : new Proposals(panel)));
          const expect = (_, { content }) => proposals.then((each) => each?.expect(content.data));
          const listen = (kernel) => kernel?.registerCommTarget(TARGET, expect);
          listen(context.sessionContext.session?.kernel);
          context.sessionContext.kernelChanged.connect((_, { newValue }) => listen(newValue));
        },
      });
    },
  };
};
