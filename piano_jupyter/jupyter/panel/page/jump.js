// The button that leads to the end of the conversation, with the number of messages that came meanwhile.
import { button, make } from "./elements.js";

export class Jump {
  constructor(log) {
    this.log = log;
    this.unread = 0;
    this.button = button("", () => this.go(), "piano-jump");
    this.button.hidden = true;
    this.node = make("div", { className: "piano-jump-place" }, this.button);
  }

  go() {
    this.log.toEnd();
    this.log.panel.compose.focus();
  }

  count() {
    this.unread += 1;
  }

  update(atEnd = this.log.follows) {
    if (atEnd) this.unread = 0;
    const label = this.unread ? `${this.unread} new ↓` : "↓";
    const name = this.unread ? `Jump to the end, ${this.unread} new` : "Jump to the end";
    if (this.button.textContent !== label) Object.assign(this.button, { textContent: label, ariaLabel: name });
    this.button.hidden = atEnd;
  }
}
