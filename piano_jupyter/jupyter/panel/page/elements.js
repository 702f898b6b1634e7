// Elements of the page: a name, properties or attributes, children.

export function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export function button(label, onclick, className = "") {
  return make("button", { type: "button", textContent: label, className, onclick });
}

const MAX_NAME_CHARS = 40; // of a text in the name of a button

// the first line of a text, as long as the name of a button may be
export function shortName(text) {
  const first = text.trim().split("\n", 1)[0];
  return first.length > MAX_NAME_CHARS ? `${startOf(first, MAX_NAME_CHARS)}…` : first;
}

// the start of a text, without half an emoji at its end
export function startOf(text, length) {
  return text.slice(0, length).replace(/[\ud800-\udbff]$/, "");
}

// give a button a name that tells it from others with the same label
export function named(node, about) {
  return Object.assign(node, { ariaLabel: `${node.textContent}: ${shortName(about)}` });
}
