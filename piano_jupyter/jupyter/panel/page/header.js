// The line above the conversation: the title of the thread, which a click renames.
import { make } from "./elements.js";

export class Header {
  constructor(panel) {
    this.panel = panel;
    this.title = make("button", { type: "button", className: "piano-title", title: "Rename this thread" });
    this.title.onclick = () => this.rename();
    this.node = make("header", { className: "piano-header" }, this.title);
    this.showTitle();
  }

  showTitle() {
    const title = this.panel.model.get("title");
    this.title.textContent = title;
    this.panel.root.setAttribute("aria-label", `Chat: ${title}`);
    this.panel.log.node.setAttribute("aria-label", `Conversation: ${title}`);
  }

  rename() {
    const before = this.title.textContent;
    const box = make("input", { className: "piano-rename", value: before, maxLength: 60, "aria-label": "Title of this thread" });
    let ended = false;
    const end = (keep) => {
      if (ended) return; // Enter and the loss of focus that follows are one end
      ended = true;
      box.replaceWith(this.title);
      if (keep && box.value.trim() && box.value.trim() !== before) this.panel.act("rename", { about: box.value });
      this.panel.compose.focus();
    };
    box.onkeydown = (event) => {
      if (event.isComposing || !["Enter", "Escape"].includes(event.key)) return;
      event.preventDefault();
      end(event.key === "Enter");
    };
    box.onblur = () => end(true);
    this.title.replaceWith(box);
    box.select();
  }
}
