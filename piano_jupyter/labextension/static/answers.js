// The answers that cells show. While one is written, what is the same stays: text can be selected, code scrolled. Then it
// gets copy buttons, at each block of code and for the whole answer.
//
// The answer stays the HTML that the front end renders (and cleans, if the notebook is not trusted); the buttons are added
// to it, and copy what is seen.
const HTML = "text/html";
const ANSWER = "answer"; // the kernel says so in the metadata of the output
const LIVE = "live"; // the same of one that is being written
const SMALL_PRINT = "div[style*='--jp-ui-font-color2']"; // below an answer: its author and cost
const SHOWN_MS = 2000; // how long a button says whether it did

// copy a text, and return whether that worked; over plain http there is no clipboard API, but the older way
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelected(text);
  }
}

function copySelected(text) {
  const { activeElement } = document;
  const box = document.createElement("textarea");
  Object.assign(box, { value: text, readOnly: true, className: "piano-unseen" });
  document.body.append(box);
  box.select();
  try {
    return document.execCommand("copy");
  } finally {
    box.remove();
    activeElement?.focus({ preventScroll: true });
  }
}

function copyButton(label, read) {
  const button = document.createElement("button");
  const say = (text) => (button.textContent = text);
  Object.assign(button, { type: "button", className: "piano-button piano-copy", textContent: "Copy", title: label });
  button.setAttribute("aria-label", label);
  button.onclick = async () => {
    say((await copy(read())) ? "Copied" : "Cannot copy here");
    setTimeout(() => say("Copy"), SHOWN_MS);
  };
  return button;
}

// the text of an answer as it is seen, without buttons, what is folded, and the line on who answered
function readAnswer(answer) {
  const hidden = [...answer.querySelectorAll(`.piano-copy, details, ${SMALL_PRINT}`)];
  hidden.forEach((each) => (each.hidden = true));
  const text = answer.innerText.trim();
  hidden.forEach((each) => (each.hidden = false));
  return text;
}

function addButtons(answer) {
  answer.classList.add("piano-answer");
  for (const block of answer.querySelectorAll("pre")) {
    if (block.closest("details")) continue;
    const code = block.textContent;
    block.classList.add("piano-copyable");
    block.append(copyButton("Copy this code", () => code));
  }
  answer.append(copyButton("Copy the answer", () => readAnswer(answer)));
}

export default async (_, { become }) => ({
  id: "piano-jupyter:answers",
  description: "Shows the answers of %%piano while they are written, and adds copy buttons to them.",
  autoStart: true,
  activate: ({ docRegistry }) => {
    docRegistry.addWidgetExtension("Notebook", {
      createNew: ({ content: { rendermime } }) => {
        const html = rendermime.getFactory(HTML);
        const createRenderer = (options) => {
          const renderer = html.createRenderer(options);
          const render = renderer.renderModel.bind(renderer);
          const renew = async (model) => {
            const draft = html.createRenderer(options);
            await draft.renderModel(model);
            renderer.toggleClass("jp-mod-trusted", model.trusted);
            become(renderer.node, draft.node);
            draft.dispose();
          };
          renderer.renderModel = async (model) => {
            const kind = model.metadata?.piano;
            await (kind === LIVE ? renew(model) : render(model));
            if (kind === ANSWER) addButtons(renderer.node);
          };
          return renderer;
        };
        rendermime.addFactory({ ...html, mimeTypes: [HTML], createRenderer }, html.defaultRank);
      },
    });
  },
});
