// The notebook around the panel, where the front end gives it: its cells, and new ones.

const MAX_SENT_CHARS = 6000; // of the source of a cell, and of each output
const MAX_OUTPUTS = 10; // of a cell

export class Notebook {
  constructor(model) {
    this.model = model;
    this.added = null; // the id of the cell that was added last
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
  addCell({ code, view }) {
    return this.use((notebook) => {
      const cells = [...notebook.cells];
      const place = cells.findIndex((cell) => cell.id === this.added);
      const at = place >= 0 ? place : cells.indexOf(cellOf(notebook, view));
      this.added = notebook.sharedModel.insertCell(at < 0 ? cells.length : at + 1, { cell_type: "code", source: code }).id;
      return true;
    });
  }
}

// of pictures and the like, only what kinds there are
function readCell(cell) {
  const outputs = (cell.outputs?.toJSON() ?? []).slice(0, MAX_OUTPUTS).map(({ output_type, text, data, ename, evalue }) => ({
    output_type,
    ...(text === undefined ? {} : { text: cut(text) }),
    data: Object.fromEntries(Object.entries(data ?? {}).map(([kind, value]) => [kind, kind === "text/plain" ? cut(value) : ""])),
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
