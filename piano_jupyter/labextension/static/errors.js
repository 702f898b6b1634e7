// Below an error that a cell has raised: "Explain with Piano", which runs `%piano explain` in a new cell below.
//
// The front end has no renderer for the type of an error, and shows its traceback as the text of stderr. This is one: it
// shows that in the same way, and adds the button. Nothing of the error goes into the cell but the number of its own.
const ERROR = "application/vnd.jupyter.error";
const STDERR = "application/vnd.jupyter.stderr";
const BEFORE_STDERR = 10; // a rank
const MAGIC = "%piano";
const LOAD = "%load_ext piano_jupyter";
const BUSY = "The kernel is busy; the error is explained when it is free.";

function explanation(number, isLoaded) {
  const explain = `${MAGIC} explain${Number.isInteger(number) ? ` --of ${number}` : ""}`;
  return isLoaded ? explain : `${LOAD}\n${explain}`;
}

export default async (shared) => {
  const { NotebookActions } = await shared("@jupyterlab/notebook");

  async function explain(panel, node, say) {
    const cell = panel.content.widgets.find((each) => each.node.contains(node));
    const kernel = panel.sessionContext.session?.kernel;
    if (!cell || !kernel) return;
    if (kernel.status === "busy") say(BUSY);
    const { content } = await kernel.requestInspect({ code: MAGIC, cursor_pos: MAGIC.length, detail_level: 0 });
    say("");
    const { content: notebook } = panel;
    const at = notebook.widgets.indexOf(cell);
    if (at < 0) return; // removed meanwhile
    notebook.activeCellIndex = at;
    NotebookActions.insertBelow(notebook);
    notebook.activeCell.model.sharedModel.setSource(explanation(cell.model.executionCount, content.found));
    await NotebookActions.run(notebook, panel.sessionContext);
  }

  function addButton(panel, node) {
    const button = document.createElement("button");
    const status = document.createElement("span");
    const row = document.createElement("div");
    Object.assign(button, { type: "button", className: "piano-button", textContent: "Explain with Piano" });
    status.setAttribute("role", "status");
    row.className = "piano-explain";
    button.dataset.lmSuppressShortcuts = "true"; // d d would delete the cell
    row.append(button, status);
    button.onclick = async () => {
      button.disabled = true;
      try {
        await explain(panel, node, (text) => (status.textContent = text));
      } finally {
        button.disabled = false;
      }
    };
    node.querySelector(":scope > .piano-explain")?.remove();
    node.append(row);
  }

  return {
    id: "piano-jupyter:errors",
    description: "Adds a button to errors that asks Piano about them.",
    autoStart: true,
    activate: ({ docRegistry }) => {
      docRegistry.addWidgetExtension("Notebook", {
        createNew: (panel) => {
          const { rendermime } = panel.content;
          const text = rendermime.getFactory(STDERR);
          const createRenderer = (options) => {
            const renderer = text.createRenderer({ ...options, mimeType: STDERR });
            const render = renderer.renderModel.bind(renderer);
            renderer.renderModel = async (model) => {
              await render(model);
              const isOfCode = model.data[ERROR]?.traceback?.length > 1; // Piano's own errors are one sentence
              if (model.trusted && isOfCode) addButton(panel, renderer.node);
            };
            return renderer;
          };
          rendermime.addFactory({ safe: true, mimeTypes: [ERROR], createRenderer }, BEFORE_STDERR);
        },
      });
    },
  };
};
