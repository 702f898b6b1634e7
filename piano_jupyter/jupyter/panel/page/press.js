// A control that is replaced while the pointer is down on it would get no click: what replaces controls waits until the
// pointer is up again, and the click was told.

const ENDS = ["pointerup", "pointercancel", "contextmenu"]; // after the last two there may be no "pointerup"

export class Press {
  constructor() {
    this.isDown = false;
    this.waiting = []; // work, in order
    this.ends = new AbortController();
    const { signal } = this.ends;
    for (const end of ENDS) window.addEventListener(end, () => this.release(), { capture: true, signal });
    // the list of a <select> and other windows may take it, too
    window.addEventListener("pointermove", ({ buttons }) => buttons || this.release(), { capture: true, signal });
  }

  // watch for the pointer in an element
  watch(node) {
    node.addEventListener("pointerdown", ({ button }) => (this.isDown ||= button === 0), { capture: true });
  }

  release() {
    if (this.isDown) setTimeout(() => this.isDown || this.flush());
    this.isDown = false;
  }

  // do this now, or once nothing is pressed; work is done in the order in which it came
  after(work) {
    this.waiting.push(work);
    if (!this.isDown) this.flush();
  }

  flush() {
    for (const work of this.waiting.splice(0)) work();
  }

  close() {
    this.ends.abort();
    this.waiting = [];
  }
}
