// Content that is shown again: what is the same stays, with a selection in it, the focus and how far it is scrolled.

const CONTROLS = "button, input, select, textarea, summary";

// give an element the children of another one, after so many of its own
export function become(node, fresh, after = 0) {
  const wanted = [...fresh.childNodes];
  for (const [i, each] of wanted.entries()) {
    const old = node.childNodes[after + i];
    if (!old) node.append(each);
    else if (!continues(old, each)) old.replaceWith(each);
  }
  while (node.childNodes.length > after + wanted.length) node.lastChild.remove();
}

// make a node the same as another one, and return whether that can be done in place; buttons are not taken apart, because
// what they do cannot be compared
function continues(old, fresh) {
  if (old.isEqualNode(fresh)) return true;
  if (old.nodeType === Node.TEXT_NODE && fresh.nodeType === Node.TEXT_NODE) {
    let same = 0;
    while (same < old.length && old.data[same] === fresh.data[same]) same++;
    old.replaceData(same, old.length - same, fresh.data.slice(same));
    return true;
  }
  if (!old.cloneNode(false).isEqualNode(fresh.cloneNode(false)) || old.matches("button, :has(button)")) return false;
  become(old, fresh);
  return true;
}

// do something that replaces the controls of an element: the one that had the focus has it again, if it is still there;
// return whether the focus is where it was
export function keepingFocus(node, work) {
  const before = node.contains(document.activeElement) && document.activeElement;
  work();
  if (!before || node.contains(document.activeElement)) return true;
  const name = nameOf(before);
  const same = [...node.querySelectorAll(CONTROLS)].find((each) => !each.disabled && nameOf(each) === name);
  same?.focus({ preventScroll: true });
  return Boolean(same);
}

function nameOf(control) {
  return control.dataset.key ?? control.ariaLabel ?? control.textContent;
}
