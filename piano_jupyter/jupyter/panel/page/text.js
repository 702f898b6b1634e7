// Text of a model: what it thought, the HTML that is finished, and a tail that is still being written.
import { addCodeTools } from "./code_block.js";
import { drawDiagrams } from "./diagram.js";
import { duration, timeOfDay } from "./elapsed.js";
import { make } from "./elements.js";

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
      make("div", { className: "piano-tail" }),
      make("details", { className: "piano-cost" }, make("summary"), make("div")),
    );
    parts.append(node);
    log.nodes.set(key, node);
  }
  const [thoughts, done, , below] = node.children;
  const summary = [at ? timeOfDay(at) : "", brief].filter(Boolean).join(" · ");
  below.hidden = !summary && !cost;
  below.firstChild.textContent = summary;
  below.lastChild.innerHTML = cost ?? "";
  done.replaceChildren();
  thoughts.lastChild.textContent = "";
  if (at) thoughts.firstChild.textContent = "Reasoning";
  appendText(log, node, { html, tail, reasoning, thought });
}

export function appendText(log, node, { html, tail, append, reasoning, thought }) {
  if (!node) return;
  const [thoughts, done, last] = node.children;
  if (reasoning) thoughts.lastChild.append(reasoning);
  if (thought !== undefined) thoughts.firstChild.textContent = `Thought for ${duration(thought)}`;
  thoughts.hidden = !thoughts.lastChild.textContent;
  if (append) last.querySelector("code").append(append);
  if (tail === undefined) return;
  last.innerHTML = tail;
  const fresh = make("template", { innerHTML: html }).content;
  addCodeTools(log.panel, fresh);
  drawDiagrams(log.panel, fresh);
  done.append(fresh);
}
