// The draft of a thread: what is written and not sent, and the files that go with it. The kernel keeps it; until it has
// said so, this tab keeps the text, too.
import { keep, kept } from "./tab_storage.js";

const SAVE_AFTER_MS = 800; // of rest

export class Drafts {
  // `read()` returns what is written, `write(text)` shows it
  constructor(panel, files, { read, write }) {
    Object.assign(this, { panel, files, read, write });
    this.thread = null;
    this.saved = null; // what the kernel has; null until that is known
    this.timer = null;
    this.onLeave = () => this.save();
    window.addEventListener("pagehide", this.onLeave);
  }

  // show the draft of another thread; what was written before the first one is known stays
  async open(thread) {
    if (thread === this.thread) return;
    if (this.thread !== null) {
      this.save();
      this.thread = null;
      this.write("");
      this.files.clear();
    }
    this.thread = thread;
    this.saved = null;
    const unsaved = kept(`draft:${thread}`);
    if (unsaved && !this.read()) this.write(unsaved);
    const nothing = { text: "", files: [] };
    const { text, files } = await this.panel.link.ask("draft", { about: thread }).catch(() => nothing);
    if (this.thread !== thread) return;
    if (unsaved === null && text && !this.read()) this.write(text);
    this.saved = { text, files: keysOf(files) };
    this.files.restore(files);
    if (this.isSaved()) keep(`draft:${thread}`, null);
    else this.changed();
  }

  isSaved() {
    return this.read() === this.saved?.text && keysOf(this.files.here) === this.saved.files;
  }

  changed() {
    if (this.thread === null) return;
    keep(`draft:${this.thread}`, this.read());
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.save(), SAVE_AFTER_MS);
  }

  save() {
    clearTimeout(this.timer);
    const { thread, saved } = this;
    if (thread === null || saved === null || this.isSaved()) return;
    const text = this.read();
    const files = keysOf(this.files.here);
    const news = files === saved.files ? {} : { files: this.files.here.map(({ key }) => key) };
    this.saved = { text, files };
    this.panel.link.tell("keep_draft", { about: thread, text, ...news }, ({ error }) => {
      if (!error && kept(`draft:${thread}`) === text) keep(`draft:${thread}`, null);
    });
  }

  close() {
    this.save();
    window.removeEventListener("pagehide", this.onLeave);
  }
}

const keysOf = (files) => files.map(({ key }) => key).join();
