// Which of several versions of a question or an answer is shown, as ‹2/3›: a click shows another one, with what follows it.
import { button, make } from "./elements.js";

export function branchNodes(log, { branch, who }) {
  if (!branch) return [];
  const { id, at, of, before, after } = branch;
  const what = who === "You" ? "question" : `answer of ${who}`;
  const step = (label, name, target) => {
    const node = button(label, () => log.showBranch(id, target, name), "piano-quiet");
    node.disabled = !target;
    node.ariaLabel = `${name} version of this ${what}, ${at} of ${of}`;
    node.dataset.step = name;
    return node;
  };
  const count = make("span", { textContent: `${at}/${of}`, "aria-hidden": "true" });
  const about = { className: "piano-branch", role: "group", "aria-label": `Version ${at} of ${of} of this ${what}` };
  const group = make("span", about, step("‹", "Previous", before), count, step("›", "Next", after));
  group.dataset.branch = id;
  return [group];
}
