// What a chat panel needs of its notebook: its element, which cell is active, and to run one.
//
// A panel is a widget, and reaches no more than the model of its notebook. It finds this by a symbol, and names the
// notebook by its context, so that a panel beside two notebooks never takes one for the other.
const NAME = Symbol.for("piano-jupyter");

export default async (shared) => {
  const { INotebookTracker, NotebookActions } = await shared("@jupyterlab/notebook");

  return {
    id: "piano-jupyter:notebooks",
    description: "Runs a cell for a chat panel, and says which one is active.",
    autoStart: true,
    requires: [INotebookTracker],
    activate: (_, notebooks) => {
      const panelOf = (context) => notebooks.find((each) => each.context === context);
      globalThis[NAME] = {
        node: (context) => panelOf(context)?.content.node,
        activeCell: (context) => panelOf(context)?.content.activeCell?.model.id,

        // begin to run a cell, and return whether it is there
        run(context, id) {
          const { content, sessionContext } = panelOf(context) ?? {};
          const cell = content?.widgets.find((each) => each.model.id === id);
          if (cell) NotebookActions.runCells(content, [cell], sessionContext);
          return Boolean(cell);
        },
      };
    },
  };
};
