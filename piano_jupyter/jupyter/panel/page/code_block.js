// The buttons of a block of code: copy, and of Python: into the notebook.
import { copyFrom } from "./clipboard.js";
import { button, make, named } from "./elements.js";

const PYTHON = /(^|\s)language-(py3?|python3?|ipython3?|pycon)(\s|$)/;

// put its buttons below each block of code in a piece of the page
export function addCodeTools(panel, root) {
  for (const block of root.querySelectorAll("pre")) {
    const tools = codeTools(panel, block);
    if (block.parentElement?.classList.contains("piano-code")) block.after(tools);
    else {
      const frame = make("div", { className: "piano-code" });
      block.replaceWith(frame);
      frame.append(block, tools);
    }
  }
}

function codeTools(panel, block) {
  const code = block.textContent.replace(/\n$/, "");
  const tool = (label, title, onclick) => Object.assign(named(button(label, onclick, "piano-quiet"), code), { title });
  const copy = tool("Copy", "Copy this code", () => copyFrom(panel, copy, () => code));
  copy.classList.add("piano-copy");
  const tools = make("div", { className: "piano-tools" }, copy);
  if (!isPython(block) || !panel.notebook.isReachable()) return tools;
  const note = (problem) => panel.showNotice(problem);
  tools.append(
    tool("Insert below", "Put this code into a new cell below; it is not run", () =>
      note(panel.notebook.insertBelow(code)),
    ),
    tool("Into cell", "Put this code at the end of the cell that was selected last", () =>
      note(panel.notebook.intoCurrent(code)),
    ),
    tool("Run", "Put this code into a new cell below, and run it", () => note(panel.notebook.insertAndRun(code))),
  );
  return tools;
}

// code without a named language is taken for Python, the language of the notebook
function isPython(block) {
  const { className } = block.querySelector("code") ?? block;
  return !/(^|\s)language-/.test(className) || PYTHON.test(className);
}
