// Earlier questions of the thread, which Arrow-Up brings back into the empty box and Arrow-Down leaves again.

export class Recall {
  constructor(panel, box, write) {
    Object.assign(this, { panel, box, write });
    this.reset();
  }

  // forget what was recalled: a question was sent, or something else is written
  reset() {
    this.questions = null; // the newest first, once the kernel has told them
    this.at = -1;
  }

  // take a key; return whether it was one of these
  take(event) {
    const step = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (!step || event.shiftKey || event.altKey || event.ctrlKey || event.metaKey) return false;
    const shown = this.questions?.[this.at];
    if (this.box.value !== (shown ?? "")) return false;
    if (step < 0 && this.at < 0) return false;
    this.move(step);
    return true;
  }

  async move(step) {
    const before = this.box.value;
    const questions = (this.questions ??= await this.panel.link.ask("recall").catch(() => []));
    if (this.box.value !== before) return; // something was written meanwhile
    this.at = Math.min(Math.max(this.at + step, -1), questions.length - 1);
    this.write(questions[this.at] ?? "");
  }
}
