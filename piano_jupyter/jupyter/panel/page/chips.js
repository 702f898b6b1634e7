// The row of chips above the box: each {{…}} of the text, and each file that goes with it. Each can be removed.
import { make } from "./elements.js";

const PLACEHOLDER = /\{\{([^{}]+)\}\} ?/g;

export class Chips {
  constructor(compose) {
    this.compose = compose;
    this.node = make("div", {
      className: "piano-chips",
      role: "list",
      "aria-label": "Goes with the question",
      hidden: true,
    });
  }

  show() {
    this.compose.panel.press.after(() => this.put());
  }

  put() {
    const { box, files } = this.compose;
    const named = [...new Set([...box.value.matchAll(PLACEHOLDER)].map(([, name]) => name.trim()))];
    const chips = [
      ...named.map((name) => chip({ label: name, kind: "value" }, () => this.removeName(name))),
      ...files.list.map((file) => chip({ ...file, kind: "file" }, () => this.removeFile(file))),
    ];
    this.node.replaceChildren(...chips);
    this.node.hidden = !chips.length;
  }

  removeFile({ key }) {
    this.compose.files.remove(key);
    this.compose.focus();
  }

  removeName(name) {
    const { box } = this.compose;
    this.compose.write(box.value.replace(PLACEHOLDER, (found, each) => (each.trim() === name ? "" : found)));
    this.compose.focus();
  }
}

function chip({ label, kind, thumbnail, state, refused }, onRemove) {
  const node = make("span", { className: "piano-chip", role: "listitem", title: refused || label });
  node.dataset.kind = kind;
  node.dataset.state = refused ? "refused" : (state ?? "here");
  if (thumbnail) node.append(make("img", { src: thumbnail, alt: "" }));
  const remove = make("button", { type: "button", textContent: "×", "aria-label": `Remove ${label}` });
  remove.onclick = onRemove;
  node.append(make("span", { textContent: label }), remove);
  return node;
}
