// The notebook around the panel, where the front end gives it: its cells, and new ones.

const MAX_SENT_CHARS = 6000; // of the source of a cell, and of each output
const MAX_OUTPUTS = 10; // of a cell

const UNREACHABLE = "the notebook cannot be reached from here: copy the code";
const NO_CELL = "click into a cell of the notebook first: the code goes to its end";
const NOT_RUN = "the code is in a new cell below; it could not be run from here: run it as you run any cell";
const RUN_TIMEOUT_MS = 3000;

export class Notebook {
  constructor(model, place) {
    this.model = model;
    this.place = place; // the element that shows the panel
    this.added = null; // the id of the cell that was added last
    this.current = null; // the id of the cell that was selected last, other than the panel's own
    this.onFocus = ({ target }) => this.noteCurrent(target);
    document.addEventListener("focusin", this.onFocus);
  }

  close() {
    document.removeEventListener("focusin", this.onFocus);
  }

  isReachable() {
    return this.use((notebook) => Boolean(notebook.cells && notebook.sharedModel.insertCell)) ?? false;
  }

  // return what `work` makes of the notebook's model; null if it cannot be reached (not JupyterLab, or another version)
  use(work) {
    try {
      return work(this.model.widget_manager.context.model);
    } catch {
      return null;
    }
  }

  // the cells in the form of a notebook file
  cells() {
    return this.use((notebook) => [...notebook.cells].map(readCell));
  }

  // whether the output of the cell that shows the widget `view` can be made again
  canRunInPlace(view) {
    return Boolean(this.model.widget_manager?.kernel?.requestExecute && this.use((notebook) => cellOf(notebook, view)));
  }

  // run code, and show what it shows in place of the widget `view`; then call onDone(problem)
  runInPlace(view, code, onDone) {
    const { id, outputs } = this.use((notebook) => cellOf(notebook, view));
    const request = { code, store_history: false, stop_on_error: false };
    const future = this.model.widget_manager.kernel.requestExecute(request, false, { cellId: id });
    const places = []; // the display id of each output
    future.onIOPub = ({ header: { msg_type: type }, content }) => {
      const { transient, ...rest } = content;
      const display = transient?.display_id;
      if (type === "update_display_data") {
        if (places.includes(display)) outputs.set(places.indexOf(display), { output_type: "display_data", ...rest });
      } else if (["display_data", "execute_result", "stream", "error"].includes(type)) {
        if (!places.length) outputs.clear();
        places.push(display);
        outputs.add({ output_type: type, ...rest });
      }
    };
    future.done.then(
      () => onDone(""),
      () => onDone("The kernel has not started again; start it, then try again."),
    );
  }

  // add a cell with code below the one that shows the widget `view`, and below those added before
  addCell({ code, view, metadata = {} }) {
    return this.use((notebook) => {
      const cells = [...notebook.cells];
      const place = cells.findIndex((cell) => cell.id === this.added);
      const at = place >= 0 ? place : cells.indexOf(cellOf(notebook, view));
      const added = { cell_type: "code", source: code, metadata };
      this.added = notebook.sharedModel.insertCell(at < 0 ? cells.length : at + 1, added).id;
      return true;
    });
  }

  // put code into a new cell below the panel; return why that failed, or ""
  insertBelow(code, { model }) {
    return this.addCell({ code, view: model.model_id }) ? "" : UNREACHABLE;
  }

  // put code at the end of the cell that was selected last; return why that failed, or ""
  intoCurrent(code) {
    const put = this.use((notebook) => {
      const cell = [...notebook.cells].find((each) => each.id === this.current);
      if (!cell) return NO_CELL;
      const { length } = cell.sharedModel.getSource();
      cell.sharedModel.updateSource(length, length, length ? `\n${code}` : code);
      return "";
    });
    return put ?? UNREACHABLE;
  }

  async insertAndRun(code, panel) {
    return this.insertBelow(code, panel) || this.run(this.added);
  }

  // run a cell with the front end's own key for that; return why that failed, or ""
  async run(id) {
    const find = () => this.use((notebook) => [...notebook.cells].find((cell) => cell.id === id));
    const before = find()?.executionCount;
    const node = await until(() => this.node(id)?.querySelector(".cm-content"));
    if (!node) return NOT_RUN;
    const focused = document.activeElement;
    node.focus();
    const isActive = () =>
      node.closest(".jp-mod-editMode") && node.closest(".jp-Cell").classList.contains("jp-mod-active");
    if (!(await until(isActive))) return NOT_RUN; // the key would run another cell
    const key = { key: "Enter", code: "Enter", keyCode: 13, ctrlKey: true, bubbles: true, cancelable: true };
    node.dispatchEvent(new KeyboardEvent("keydown", key));
    const hasBegun = () =>
      find()?.executionState === "running" || find()?.executionCount !== before || isWaiting(this.node(id));
    const begun = await until(hasBegun);
    if (document.activeElement === node) focused?.focus({ preventScroll: true });
    return begun ? "" : NOT_RUN;
  }

  // the element of a cell; undefined while it is not shown
  node(id) {
    const at = this.use((notebook) => [...notebook.cells].findIndex((cell) => cell.id === id));
    return at === null || at < 0 ? undefined : this.nodes()[at];
  }

  // the elements of the cells that are shown, by their places
  nodes() {
    const found = [];
    for (const [i, node] of [...(this.root()?.querySelectorAll(".jp-Cell") ?? [])].entries())
      found[Number(node.dataset.windowedListIndex ?? i)] = node;
    return found;
  }

  root() {
    return (
      this.place.closest(".jp-Notebook") ?? document.querySelector(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook")
    );
  }

  noteCurrent(target) {
    const node = target.closest?.(".jp-Notebook .jp-Cell");
    if (!node || node.contains(this.place) || node.closest(".jp-Notebook") !== this.root()) return;
    const at = this.nodes().indexOf(node);
    this.current = this.use((notebook) => notebook.cells.get(at).id) ?? this.current;
  }
}

// return what `condition` gives once that is true, or undefined if it takes too long
function until(condition) {
  return new Promise((resolve) => {
    const begun = Date.now();
    const look = () => {
      const found = condition();
      if (found || Date.now() - begun > RUN_TIMEOUT_MS) resolve(found || undefined);
      else requestAnimationFrame(look);
    };
    look();
  });
}

function isWaiting(node) {
  return node?.querySelector(".jp-InputPrompt")?.textContent.includes("*") ?? false;
}

// of pictures and the like, only what kinds there are
function readCell(cell) {
  const outputs = (cell.outputs?.toJSON() ?? [])
    .slice(0, MAX_OUTPUTS)
    .map(({ output_type, text, data, ename, evalue }) => ({
      output_type,
      ...(text === undefined ? {} : { text: cut(text) }),
      data: Object.fromEntries(
        Object.entries(data ?? {}).map(([kind, value]) => [kind, kind === "text/plain" ? cut(value) : ""]),
      ),
      ename: cut(ename ?? ""),
      evalue: cut(evalue ?? ""),
    }));
  return {
    cell_type: cell.type,
    source: cut(cell.sharedModel.getSource()),
    execution_count: cell.executionCount ?? null,
    outputs,
  };
}

function cut(text) {
  return (Array.isArray(text) ? text.join("") : String(text)).slice(0, MAX_SENT_CHARS);
}

function cellOf(notebook, view) {
  return [...notebook.cells].find((cell) => showsWidget(cell, view));
}

function showsWidget(cell, view) {
  for (let i = 0; i < (cell.outputs?.length ?? 0); i++)
    if (cell.outputs.get(i).data["application/vnd.jupyter.widget-view+json"]?.model_id === view) return true;
  return false;
}
