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

  // add a cell with code below the one that shows the widget `view`, and below those added before
  addCell({ code, view }) {
    return this.use((notebook) => {
      const cells = [...notebook.cells];
      const place = cells.findIndex((cell) => cell.id === this.added);
      const at = place >= 0 ? place : cells.findIndex((cell) => showsWidget(cell, view));
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

function showsWidget(cell, view) {
  for (let i = 0; i < (cell.outputs?.length ?? 0); i++)
    if (cell.outputs.get(i).data["application/vnd.jupyter.widget-view+json"]?.model_id === view) return true;
  return false;
}
