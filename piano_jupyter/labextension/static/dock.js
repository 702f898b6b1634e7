// "Open Piano": the chat of a notebook's kernel beside the notebook, as high as that, and in no cell.
//
// The kernel is asked to show it by code that is always the same, and that has no number in In[ ]. This happens on a
// click, when a cell runs `%piano panel --side` (by a comm, which no file can hold), and for a dock that is open when its
// kernel restarts or the page is loaded again: then the jobs of the kernel before do not resume.
const COMMAND = "piano:open";
const TARGET = "piano-jupyter:dock"; // of the comm
const CODE = '__import__("importlib").import_module("piano_jupyter.jupyter.docked").show';
const KEPT = "piano-dock "; // in the session storage, before the path of a notebook
const BUSY = "The chat opens as soon as the kernel is free.";
const RESTARTS = "The kernel restarts; the chat comes back when it is there.";
const DEAD = "The kernel has died; the chat comes back when it is restarted.";
const NO_KERNEL = "This notebook has no kernel; the chat opens when it has one.";
const NOT_PYTHON = "Piano needs a Python kernel; this notebook has another one.";
const NOT_INSTALLED =
  "This notebook's kernel has no piano_jupyter, or an older one: install it there, then open Piano again.";

const BEGINS_MS = 300; // a kernel that has not begun after that is busy: its own word of it may come later than a click
const SHARE = 0.6; // of the width of the notebook, where the dock is in a side panel

const ICON = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" width="16">
  <path class="jp-icon3" fill="#616161" fill-rule="evenodd" d="M3 4h18v16H3zm2 2v12h3.25v-5H7V6zm5 0v7h-.25v5h4.5v-5H14V6zm7 0v7h-1.25v5H19V6z"/>
</svg>`; // three keys

// give the side panel that a dock is in enough width for a chat
function widen(dock) {
  let split = dock.parent;
  while (split && !split.setRelativeSizes) split = split.parent;
  const others = split?.relativeSizes().slice(0, -1);
  if (others) split.setRelativeSizes([...others, SHARE * others.reduce((sum, each) => sum + each, 0)]);
}

export default async (shared) => {
  const { LabIcon } = await shared("@jupyterlab/ui-components");
  const { ICommandPalette, WidgetTracker } = await shared("@jupyterlab/apputils");
  const { ILabShell, ILayoutRestorer } = await shared("@jupyterlab/application");
  const { INotebookTracker } = await shared("@jupyterlab/notebook");
  const { OutputAreaModel, SimplifiedOutputArea } = await shared("@jupyterlab/outputarea");

  const icon = new LabIcon({ name: "piano-jupyter:keys", svgstr: ICON });

  // the panel of the kernel that a notebook has at present, or a sentence that says why there is none
  class Dock extends SimplifiedOutputArea {
    constructor(notebook) {
      super({ model: new OutputAreaModel({ trusted: true }), rendermime: notebook.content.rendermime });
      this.notebook = notebook;
      this.id = `piano-dock-${notebook.id}`;
      this.addClass("piano-dock");
      Object.assign(this.title, { icon, label: "Piano", closable: true });
      this.session = notebook.sessionContext;
      this.session.statusChanged.connect(this.onStatus, this);
      this.session.kernelChanged.connect(this.onKernel, this);
    }

    onCloseRequest() {
      this.dispose();
    }

    dispose() {
      this.session.statusChanged.disconnect(this.onStatus, this);
      this.session.kernelChanged.disconnect(this.onKernel, this);
      super.dispose();
    }

    onStatus(_, status) {
      if (status === "dead") this.say(DEAD);
      else if (status === "restarting" || status === "autorestarting") {
        this.say(RESTARTS);
        this.restarts = true;
      } else if (status === "idle" && this.restarts) {
        this.restarts = false;
        this.showPanel();
      }
    }

    onKernel(_, { newValue }) {
      if (newValue) this.showPanel();
      else this.say(NO_KERNEL);
    }

    say(text, name = "stdout") {
      this.model.fromJSON([{ output_type: "stream", name, text: `${text}\n` }]);
    }

    // have the kernel show its panel here
    async showPanel({ resume = false } = {}) {
      const kernel = this.session.session?.kernel;
      if (!kernel) return this.say(NO_KERNEL);
      const { language_info: language } = await kernel.info;
      if (this.isDisposed || kernel !== this.session.session?.kernel) return;
      if (language.name !== "python") return this.say(NOT_PYTHON);
      const code = `${CODE}(resume=${resume ? "True" : "False"})`;
      const future = kernel.requestExecute({ code, store_history: false, stop_on_error: false });
      this.future = future;
      const receive = future.onIOPub;
      let begun = false;
      future.onIOPub = (message) => {
        begun = true;
        const { ename, evalue, traceback } = message.content;
        if (message.header.msg_type !== "error") receive(message);
        else if (ename === "ModuleNotFoundError" && evalue.includes("piano_jupyter")) this.say(NOT_INSTALLED);
        else this.say(traceback.join("\n"), "stderr");
      };
      setTimeout(() => {
        if (begun || future.isDisposed) return;
        this.say(BUSY);
        this.model.clear(true); // when the first output comes
      }, BEGINS_MS);
    }
  }

  return {
    id: "piano-jupyter:dock",
    description: "Shows the chat of a notebook's kernel beside the notebook.",
    autoStart: true,
    requires: [INotebookTracker],
    optional: [ICommandPalette, ILabShell, ILayoutRestorer],
    activate: ({ commands, docRegistry, shell }, notebooks, palette, lab, restorer) => {
      const docks = new WidgetTracker({ namespace: "piano-dock" });
      const dockOf = (notebook) => docks.find((dock) => dock.notebook === notebook);
      const viewOf = (context) => notebooks.find((each) => each.context === context);
      const keyOf = (notebook) => KEPT + notebook.context.path;

      // a dock is found again under the name that its notebook has now
      function follow() {
        if (this.key) sessionStorage.removeItem(this.key);
        this.key = keyOf(this.notebook);
        sessionStorage.setItem(this.key, "open");
        this.title.caption = `Piano: ${this.notebook.context.path}`;
        docks.save(this);
      }

      const place = (dock) =>
        shell.add(dock, lab ? "main" : "right", lab ? { mode: "split-right", ref: dock.notebook.id } : { rank: 600 });

      const open = (notebook, options) => {
        let dock = dockOf(notebook);
        const isNew = !dock;
        if (isNew) {
          dock = new Dock(notebook);
          notebook.disposed.connect(() => dock.dispose());
          dock.disposed.connect(() => {
            notebook.context.pathChanged.disconnect(follow, dock);
            if (!notebook.isDisposed) sessionStorage.removeItem(dock.key);
            commands.notifyCommandChanged(COMMAND);
          });
          notebook.context.pathChanged.connect(follow, dock);
          place(dock);
          docks.add(dock);
          follow.call(dock);
          dock.showPanel(options);
          commands.notifyCommandChanged(COMMAND);
        }
        shell.activateById(dock.id);
        if (isNew && !lab) widen(dock);
      };

      commands.addCommand(COMMAND, {
        icon,
        label: "Open Piano",
        caption: "Open Piano: the chat of this notebook's kernel, beside the notebook",
        describedBy: {
          args: { type: "object", properties: { path: { type: "string", description: "Of an open notebook" } } },
        },
        isEnabled: () => Boolean(notebooks.currentWidget),
        isToggled: () => Boolean(notebooks.currentWidget && dockOf(notebooks.currentWidget)),
        execute: ({ path }) => {
          const notebook = path ? notebooks.find((each) => each.context.path === path) : notebooks.currentWidget;
          if (!notebook) return;
          const dock = dockOf(notebook);
          if (dock?.isVisible && !path) dock.dispose();
          else open(notebook, { resume: !path });
        },
      });
      palette?.addItem({ command: COMMAND, category: "Notebook Operations" });

      if (lab && restorer) {
        const path = (dock) => dock.notebook.context.path;
        restorer.restore(docks, {
          command: COMMAND,
          args: (dock) => ({ path: path(dock) }),
          name: path,
          when: notebooks.restored,
        });
        // a layout that was saved before the notebook was renamed leaves the dock out
        lab.restored.then(() => docks.forEach((dock) => dock.isAttached || place(dock)));
      }
      docRegistry.addWidgetExtension("Notebook", {
        createNew: (notebook, context) => {
          const listen = (kernel) =>
            kernel?.registerCommTarget(TARGET, (comm) => {
              // the view that has registered last may be closed, and another one of the notebook be there
              open(notebook.isDisposed ? viewOf(context) : notebook, { resume: true });
              comm.send({ opened: true });
            });
          listen(context.sessionContext.session?.kernel);
          context.sessionContext.kernelChanged.connect((_, { newValue }) => listen(newValue));
          if (!lab) context.ready.then(() => sessionStorage.getItem(keyOf(notebook)) && open(notebook));
        },
      });
    },
  };
};
