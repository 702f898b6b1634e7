// A panel's transcript in the notebook: it goes on being updated after the page was loaded again, and where no panel is
// alive above it, a button continues the chat.
//
// After a reload the front end no longer knows which output a display id belongs to. The kernel writes it into the
// metadata of the transcript, and this finds the output by it. Only what the kernel that runs sends is shown. The thread
// is in the metadata, too: the button opens the panel on it where the transcript stands.
const KEY = "piano_display_id";
const THREAD = "piano_thread";
const IS_THREAD = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/; // nothing else goes into the code that runs
const LOAD = 'get_ipython().extension_manager.load_extension("piano_jupyter")'; // says nothing if it is loaded
const HTML = "text/html";
const SAVED = "This is the conversation as it was saved.";
const BUSY = "The chat opens as soon as the kernel is free.";
const STARTS = "The kernel starts…";
const NO_KERNEL = "This notebook has no kernel: choose one, then try again.";

const isSame = (output, data) => JSON.stringify(output.data) === JSON.stringify(data);

function update(notebook, id, { data, metadata }) {
  for (const { outputs } of notebook.cells) {
    for (let i = 0; i < (outputs?.length ?? 0); i++) {
      const output = outputs.get(i).toJSON();
      if (output.metadata?.[KEY] === id && !isSame(output, data)) outputs.set(i, { ...output, data, metadata });
    }
  }
}

// show the panel on a thread in place of what the cell shows; where there is no kernel, one is started
async function open({ content, sessionContext }, node, thread, say) {
  const cell = content.widgets.find((each) => each.node.contains(node));
  if (!cell) return;
  if (!sessionContext.session?.kernel) {
    say(STARTS);
    await sessionContext.startKernel().catch(() => {}); // then there is none
  }
  const kernel = sessionContext.session?.kernel;
  if (!kernel) return say(NO_KERNEL);
  say(kernel.status === "busy" ? BUSY : STARTS);
  const code = `${LOAD}\n%piano panel ${thread}`;
  const request = { code, store_history: false, stop_on_error: false };
  cell.outputArea.future = kernel.requestExecute(request, false, { cellId: cell.model.id });
}

function addButton(panel, node, thread) {
  const row = document.createElement("div");
  const button = document.createElement("button");
  const status = document.createElement("span");
  const say = (text) => (status.textContent = text);
  Object.assign(button, { type: "button", className: "piano-button", textContent: "Continue this chat" });
  row.className = "piano-saved";
  status.setAttribute("role", "status");
  row.append(button, status);
  say(SAVED);
  button.onclick = async () => {
    button.disabled = true;
    try {
      await open(panel, node, thread, say);
    } finally {
      button.disabled = false;
    }
  };
  button.dataset.lmSuppressShortcuts = "true"; // d d would delete the cell
  node.append(row);
}

function addButtons(panel) {
  const { rendermime } = panel.content;
  const html = rendermime.getFactory(HTML);
  const createRenderer = (options) => {
    const renderer = html.createRenderer(options);
    const render = renderer.renderModel.bind(renderer);
    renderer.renderModel = async (model) => {
      await render(model);
      const thread = model.metadata?.[THREAD];
      if (model.trusted && model.metadata?.[KEY] && IS_THREAD.test(thread)) addButton(panel, renderer.node, thread);
    };
    return renderer;
  };
  rendermime.addFactory({ ...html, mimeTypes: [HTML], createRenderer }, html.defaultRank);
}

export default async () => ({
  id: "piano-jupyter:transcripts",
  description: "Updates the transcripts of panels after the page was loaded again, and continues their chats.",
  autoStart: true,
  activate: ({ docRegistry }) => {
    docRegistry.addWidgetExtension("Notebook", {
      createNew: (panel, { model, sessionContext }) => {
        addButtons(panel);
        sessionContext.iopubMessage.connect((_, { header, content }) => {
          const id = content.transient?.display_id;
          if (header.msg_type === "update_display_data" && id && content.metadata?.[KEY] === id)
            update(model, id, content);
        });
      },
    });
  },
});
