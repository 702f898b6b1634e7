// Text of a model: what it thought, the HTML that is finished, and a tail that is still being written.
import { button, make } from "./elements.js";

export function showText(log, { part: key, in: entry, html, tail, reasoning, cost }) {
  let node = log.nodes.get(key);
  const parts = log.partsOf(entry);
  if (!parts) return;
  if (!node) {
    node = make(
      "div",
      { className: "piano-text" },
      make("details", { className: "piano-reasoning" }, make("summary", { textContent: "Reasoning" }), make("div")),
      make("div", { className: "piano-done" }),
      make("div", { className: "piano-tail" }),
      make("div", { className: "piano-cost" }),
    );
    parts.append(node);
    log.nodes.set(key, node);
  }
  const [thoughts, done, , below] = node.children;
  below.innerHTML = cost ?? "";
  done.replaceChildren();
  thoughts.lastChild.textContent = "";
  appendText(node, { html, tail, reasoning });
}

export function appendText(node, { html, tail, append, reasoning }) {
  if (!node) return;
  const [thoughts, done, last] = node.children;
  if (reasoning) thoughts.lastChild.append(reasoning);
  thoughts.hidden = !thoughts.lastChild.textContent;
  if (append) last.querySelector("code").append(append);
  if (tail === undefined) return;
  last.innerHTML = tail;
  const fresh = make("template", { innerHTML: html }).content;
  for (const block of fresh.querySelectorAll("pre")) block.append(copyButton(block));
  done.append(fresh);
}

function copyButton(block) {
  const text = block.textContent;
  const copy = button("Copy", async () => {
    await navigator.clipboard?.writeText(text);
    copy.textContent = "Copied";
  }, "piano-copy");
  return copy;
}
