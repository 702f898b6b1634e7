// The draft of a thread: what is written and not sent. The kernel keeps it; until it has said so, this tab does, too.

const SAVE_AFTER_MS = 800; // of rest

export class Drafts {
  // `read()` returns what is written, `write(text)` shows it
  constructor(panel, { read, write }) {
    Object.assign(this, { panel, read, write });
    this.thread = null;
    this.saved = "";
    this.timer = null;
    this.onLeave = () => this.save();
    window.addEventListener("pagehide", this.onLeave);
  }

  // show the draft of another thread; what was written before the first one is known stays
  async open(thread) {
    if (thread === this.thread) return;
    if (this.thread !== null) {
      this.save();
      this.write("");
    }
    this.thread = thread;
    this.saved = "";
    const text = stored(thread) ?? (await this.panel.link.ask("draft", { about: thread }).catch(() => ""));
    if (this.thread !== thread) return;
    if (this.read()) this.changed();
    else if (text) this.write(text);
    this.saved = text;
  }

  changed() {
    if (this.thread === null) return;
    store(this.thread, this.read());
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.save(), SAVE_AFTER_MS);
  }

  save() {
    clearTimeout(this.timer);
    const { thread, saved } = this;
    const text = this.read();
    if (thread === null || text === saved) return;
    this.saved = text;
    this.panel.link.tell("keep_draft", { about: thread, text }, ({ error }) => {
      if (!error && stored(thread) === text) store(thread, null);
    });
  }

  close() {
    this.save();
    window.removeEventListener("pagehide", this.onLeave);
  }
}

function stored(thread) {
  try {
    return sessionStorage.getItem(`piano-draft:${thread}`);
  } catch {
    return null; // a page that may keep nothing
  }
}

function store(thread, text) {
  try {
    if (text === null) sessionStorage.removeItem(`piano-draft:${thread}`);
    else sessionStorage.setItem(`piano-draft:${thread}`, text);
  } catch {
    // a page that may keep nothing, or no more: the kernel has the draft
  }
}
