// The thread that a panel has shown last, in the cell that it is in or beside the notebook: in a new kernel it comes back
// to it when the cell runs again.
import { keep, kept } from "./tab_storage.js";

export class LastThread {
  constructor(panel) {
    this.panel = panel;
  }

  // where it is kept; null where the front end does not tell which notebook this is
  key() {
    const place = this.panel.notebook.where();
    return place && `thread:${place}`;
  }

  // the thread and the kernel that it was shown from
  get() {
    const key = this.key();
    return (key && JSON.parse(kept(key))) ?? {};
  }

  set(thread, kernel) {
    const key = this.key();
    if (key) keep(key, JSON.stringify({ thread, kernel }));
  }
}
