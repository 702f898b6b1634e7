// Figures, images and tables: their names at first, their content once the kernel has sent it.
import { make } from "./elements.js";

export class Attachments {
  constructor(panel) {
    this.panel = panel;
    this.known = new Map(); // the HTML of those that have come, by hash; "" while one is on its way
  }

  nodes(attachments) {
    return attachments.map(([hash, label]) => {
      const node = make("div", { className: "piano-attachment", textContent: `[${label}]` });
      node.dataset.hash = hash;
      node.dataset.label = label;
      const html = this.known.get(hash);
      if (html) show(node, html);
      else if (html === undefined) this.fetch(hash);
      return node;
    });
  }

  fetch(hash) {
    this.known.set(hash, "");
    this.panel.link.ask("attachment", { about: hash }).then(
      (html) => this.panel.log.keepingItsEnd(() => this.fill(hash, html)),
      () => this.known.delete(hash),
    );
  }

  fill(hash, html) {
    this.known.set(hash, html);
    for (const node of this.panel.root.querySelectorAll(`[data-hash="${hash}"]`)) if (html) show(node, html);
  }
}

// the content was sent without the name of the file
function show(node, html) {
  node.innerHTML = html;
  node.querySelector("summary")?.replaceChildren(node.dataset.label);
  node.querySelector("img")?.setAttribute("alt", node.dataset.label);
}
