// How tall the panel may be: the box in which one writes stays in sight in a small window, and a panel that has a place
// of its own beside the notebook fills it.

const MARGIN_PX = 12;

export class Room {
  // onChange() is called once the panel has another size
  constructor(root, onChange) {
    Object.assign(this, { root, onChange });
    this.observer = new ResizeObserver(() => this.measure());
  }

  // call it once the panel is in the page: what surrounds it is known in the next frame
  watch() {
    this.frame = requestAnimationFrame(() => {
      this.around = scroller(this.root);
      this.observer.observe(this.around);
      this.measure();
    });
  }

  measure() {
    this.root.classList.toggle("piano-fills", !this.root.closest(".jp-Cell"));
    const inner = getComputedStyle(this.around);
    const height = this.around.clientHeight - parseFloat(inner.paddingTop) - parseFloat(inner.paddingBottom);
    if (height > 0) this.root.style.setProperty("--room", `${Math.max(height - MARGIN_PX, 120)}px`);
    this.onChange();
  }

  close() {
    cancelAnimationFrame(this.frame);
    this.observer.disconnect();
  }
}

// the nearest element around that scrolls, else the whole page
function scroller(node) {
  for (let each = node.parentElement; each; each = each.parentElement)
    if (["auto", "scroll", "hidden"].includes(getComputedStyle(each).overflowY) && isBounded(each)) return each;
  return document.documentElement;
}

// outputs that only clip what is in them are as tall as that
function isBounded(node) {
  return !node.closest(".jp-Cell, .jp-OutputArea-child") && node.clientHeight > 0;
}
