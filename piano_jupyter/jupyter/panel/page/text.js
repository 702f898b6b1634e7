// Text of a model: what it thought, and the HTML of its blocks, of which the tail is still being written.
import { addCodeTools } from "./code_block.js";
import { drawDiagrams } from "./diagram.js";
import { duration, timeOfDay } from "./elapsed.js";
import { make } from "./elements.js";
import { become } from "./renewed.js";

export function showText(log, { part: key, in: entry, html, tail, reasoning, cost, brief, at, thought }) {
  let node = log.nodes.get(key);
  const parts = log.partsOf(entry);
  if (!parts) return;
  if (!node) {
    node = make(
      "div",
      { className: "piano-text" },
      make("details", { className: "piano-reasoning" }, make("summary", { textContent: "Thinking" }), make("div")),
      make("div", { className: "piano-done" }),
      make("details", { className: "piano-cost" }, make("summary"), make("div")),
    );
    parts.append(node);
    log.nodes.set(key, node);
  }
  const [thoughts, , below] = node.children;
  const summary = [at ? timeOfDay(at) : "", brief].filter(Boolean).join(" · ");
  below.hidden = !summary && !cost;
  below.firstChild.textContent = summary;
  below.lastChild.innerHTML = cost ?? "";
  if (thoughts.lastChild.textContent !== reasoning) thoughts.lastChild.textContent = reasoning;
  if (at) thoughts.firstChild.textContent = "Reasoning";
  showThought(thoughts, thought);
  node.finished = 0; // how many of its blocks are
  showBlocks(log.panel, node, html, tail);
}

export function appendText(log, node, { html, tail, append, reasoning, thought }) {
  if (!node) return;
  const [thoughts, blocks] = node.children;
  if (reasoning) thoughts.lastChild.append(reasoning);
  showThought(thoughts, thought);
  if (append) [...blocks.querySelectorAll("code")].at(-1).append(append);
  if (tail !== undefined) showBlocks(log.panel, node, html, tail);
}

// show blocks that are finished now, with their buttons and drawings, and the tail that can still change
function showBlocks(panel, node, html, tail) {
  const fresh = parsed(html);
  addCodeTools(panel, fresh);
  drawDiagrams(panel, fresh);
  const { length } = fresh.childNodes;
  fresh.append(parsed(tail));
  become(node.children[1], fresh, node.finished);
  node.finished += length;
}

function showThought(thoughts, seconds) {
  if (seconds !== undefined) thoughts.firstChild.textContent = `Thought for ${duration(seconds)}`;
  thoughts.hidden = !thoughts.lastChild.textContent;
}

function parsed(html) {
  return make("template", { innerHTML: html }).content;
}
