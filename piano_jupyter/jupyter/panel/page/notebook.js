// The notebook around the panel, where the front end gives it: its cells, and new ones.

import { startOf } from "./elements.js";

const MAX_SENT_CHARS = 6000; // of the source of a cell, and of each output
const NOTE_CHARS = 60; // of how much more there is
const MAX_OUTPUTS = 10; // of a cell

const UNREACHABLE = "the notebook cannot be reached from here: copy the code";
const NO_CELL = "click into a cell of the notebook first: the code goes to its end";
const NOT_RUN =
  "the code is in a cell of the notebook and was not run: here is no extension of Piano that runs cells, so run it as you run any cell";
const NO_KERNEL = "This notebook has no kernel: choose one, then try again.";
const EXTENSION = Symbol.for("piano-jupyter"); // by which it is found in the page

export class Notebook {
  constructor(model, place) {
    this.model = model;
    this.place = place; // the element that shows the panel
    this.added = {}; // the cell that was added last, and the one that it was put below: their ids
    this.current = null; // the id of the cell that was selected last, other than the panel's own
    this.onFocus = ({ target }) => this.noteCurrent(target);
    document.addEventListener("focusin", this.onFocus);
  }

  close() {
    document.removeEventListener("focusin", this.onFocus);
  }

  get context() {
    return this.model.widget_manager?.context;
  }

  get hasExtension() {
    return Boolean(this.context && globalThis[EXTENSION]);
  }

  // what Piano's extension says of this notebook, or does in it; null where it is not installed
  extension(what, ...about) {
    return this.hasExtension ? (globalThis[EXTENSION][what](this.context, ...about) ?? null) : null;
  }

  // the cell that shows the panel; undefined beside the notebook
  ownCell() {
    const widget = this.model.get("widget_id");
    return this.use((notebook) => [...notebook.cells].find((cell) => showsWidget(cell, widget))) ?? undefined;
  }

  // which place of which notebook shows the panel, as a text; null where the front end does not tell
  where() {
    const path = this.context?.path;
    return path ? `${path} ${this.ownCell()?.id ?? "beside"}` : null;
  }

  isReachable() {
    return this.use((notebook) => Boolean(notebook.cells && notebook.sharedModel.insertCell)) ?? false;
  }

  // return what `work` makes of the notebook's model; null if it cannot be reached (not JupyterLab, or another version)
  use(work) {
    try {
      return work(this.context.model);
    } catch {
      return null;
    }
  }

  // the cells in the form of a notebook file
  cells() {
    return this.use((notebook) => [...notebook.cells].map(readCell));
  }

  // whether the output of the cell that shows the panel can be made again
  canRunInPlace() {
    return Boolean(this.context?.sessionContext?.startKernel && this.ownCell());
  }

  // run code, and show what it shows in place of the panel; then call onDone(problem). A kernel is started where there is
  // none
  async runInPlace(code, onDone) {
    const { id, outputs } = this.ownCell();
    const { sessionContext } = this.context;
    if (!sessionContext.session?.kernel) await sessionContext.startKernel().catch(() => {}); // then there is none
    const kernel = sessionContext.session?.kernel;
    if (!kernel) return onDone(NO_KERNEL);
    const request = { code, store_history: false, stop_on_error: false };
    const future = kernel.requestExecute(request, false, { cellId: id });
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

  // add a cell with code below the one that shows the panel, else below the active one, and below those that were added
  // there before
  addCell({ code, metadata = {} }) {
    return this.use((notebook) => {
      const ids = [...notebook.cells].map(({ id }) => id);
      const below = this.ownCell()?.id ?? this.selected();
      const last = this.added.below === below && ids.includes(this.added.id) ? this.added.id : below;
      const at = ids.includes(last) ? ids.indexOf(last) + 1 : ids.length;
      const added = { cell_type: "code", source: code, metadata };
      this.added = { below, id: notebook.sharedModel.insertCell(at, added).id };
      return true;
    });
  }

  // put code into a new cell below the panel; return why that failed, or ""
  insertBelow(code) {
    return this.addCell({ code }) ? "" : UNREACHABLE;
  }

  // put code at the end of the cell that was selected last; return why that failed, or ""
  intoCurrent(code) {
    const id = this.selected();
    const put = this.use((notebook) => {
      const cell = [...notebook.cells].find((each) => each.id === id);
      if (!cell) return NO_CELL;
      const { length } = cell.sharedModel.getSource();
      cell.sharedModel.updateSource(length, length, length ? `\n${code}` : code);
      return "";
    });
    return put ?? UNREACHABLE;
  }

  insertAndRun(code) {
    return this.insertBelow(code) || this.run(this.added.id);
  }

  // begin to run a cell; return why that failed, or ""
  run(id) {
    return this.extension("run", id) ? "" : NOT_RUN;
  }

  // the id of the cell that is active, or was before the one that shows the panel
  selected() {
    const active = this.extension("activeCell");
    return active && active !== this.ownCell()?.id ? active : this.current;
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
      this.place.closest(".jp-Notebook") ??
      this.extension("node") ??
      document.querySelector(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook")
    );
  }

  noteCurrent(target) {
    const node = target.closest?.(".jp-Notebook .jp-Cell");
    if (!node || node.contains(this.place) || node.closest(".jp-Notebook") !== this.root()) return;
    const at = this.nodes().indexOf(node);
    this.current = this.use((notebook) => notebook.cells.get(at).id) ?? this.current;
  }
}

// of pictures and the like, only what kinds there are; how far an answer is, is no output
function readCell(cell) {
  const shown = (cell.outputs?.toJSON() ?? []).filter(
    ({ data }) => !String(data?.["text/html"] ?? "").includes('class="piano-live'),
  );
  const left = shown.length - MAX_OUTPUTS;
  const outputs = shown.slice(0, MAX_OUTPUTS).map(({ output_type, text, data, ename, evalue }) => ({
    output_type,
    ...(text === undefined ? {} : { text: cut(text) }),
    data: Object.fromEntries(
      Object.entries(data ?? {}).map(([kind, value]) => [kind, kind === "text/plain" ? cut(value) : ""]),
    ),
    ename: cut(ename ?? ""),
    evalue: cut(evalue ?? ""),
  }));
  if (left > 0)
    outputs.push({ output_type: "stream", text: `… and ${left} more ${left === 1 ? "output" : "outputs"}` });
  return {
    cell_type: cell.type,
    source: cut(cell.sharedModel.getSource()),
    execution_count: cell.executionCount ?? null,
    outputs,
  };
}

// what is cut says so, within the same number of characters
function cut(value) {
  const text = Array.isArray(value) ? value.join("") : String(value);
  if (text.length <= MAX_SENT_CHARS) return text;
  const start = startOf(text, MAX_SENT_CHARS - NOTE_CHARS);
  return `${start}\n… and ${(text.length - start.length).toLocaleString("en")} more characters`;
}

function showsWidget(cell, widget) {
  for (let i = 0; i < (cell.outputs?.length ?? 0); i++)
    if (cell.outputs.get(i).data["application/vnd.jupyter.widget-view+json"]?.model_id === widget) return true;
  return false;
}
