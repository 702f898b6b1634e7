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
