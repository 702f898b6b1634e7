// The chat panel. It has no state of its own: it shows what the kernel sends and reports what was clicked.
//
// From the kernel: "all" (everything, for a new page), "changes" (numbered), "received" and "done" (of an action),
// "cell" (code for a new cell), "read_cells", "news" (something beside the conversation has changed).
// To the kernel: {do, page, action, ...}. Only the kernel sends HTML, sanitized; everything else is set as text.
import { Attachments } from "./attachments.js";
import { Compose } from "./compose.js";
import { make } from "./elements.js";
import { Header } from "./header.js";
import { KernelLink } from "./kernel_link.js";
import { Log } from "./log.js";
import { Notebook } from "./notebook.js";

const NO_REPLY =
  "The kernel does not answer. It may be busy, or it was restarted: then run %piano panel again. Your text is still here.";

class Panel {
  constructor(model, place) {
    this.model = model;
    this.sequence = null; // of the last changes applied; null before the first
    this.sheet = null; // what covers the conversation, if something does
    this.overdue = null; // the action without a reply that the notice is about, if any
    this.link = new KernelLink(model, {
      onSilence: (action) => this.showNotice(NO_REPLY, action),
      onReply: (action) => this.overdue === action && this.showNotice(""),
    });
    this.notebook = new Notebook(model);
    this.attachments = new Attachments(this);
    this.build(place);
    this.receive = (message) => this.onMessage(message);
    this.onTitle = () => this.header.showTitle();
    model.on("msg:custom", this.receive);
    model.on("change:title", this.onTitle);
    this.act("hello");
    this.watchForEyes();
  }

  build(place) {
    this.root = make("section", { className: "piano-panel" });
    this.notice = make("div", { className: "piano-notice", role: "alert", hidden: true });
    this.status = make("div", { className: "piano-unseen", role: "status" });
    this.log = new Log(this);
    this.compose = new Compose(this);
    this.header = new Header(this);
    this.root.append(this.header.node, this.log.node, this.notice, this.compose.node, this.status);
    // keep plain keys and Enter from the notebook, where d d deletes the cell; shortcuts with Ctrl and Meta still work
    this.root.onkeydown = (event) => {
      if ((!event.ctrlKey && !event.metaKey) || event.key === "Enter") event.stopPropagation();
    };
    place.append(this.root);
  }

  // the header asks the kernel, and so the server, only once the panel is seen
  watchForEyes() {
    this.eyes = new IntersectionObserver((entries) => {
      const wasSeen = this.inSight;
      this.inSight = entries.at(-1).isIntersecting;
      if (this.inSight && !wasSeen) this.header.load();
    });
    this.eyes.observe(this.root);
  }

  isSeen() {
    return this.inSight && document.visibilityState === "visible";
  }

  close() {
    this.eyes.disconnect();
    this.header.close();
    this.model.off("msg:custom", this.receive);
    this.model.off("change:title", this.onTitle);
    this.link.close();
  }

  // have the kernel do something; a failure is shown, and told to onDone(error)
  act(what, content = {}, onDone = () => {}, action = undefined) {
    const done = ({ error, reply }) => {
      if (error) this.showNotice(error);
      else if (!this.overdue) this.showNotice("");
      onDone(error, reply);
    };
    return this.link.request(what, content, done, action);
  }

  onMessage(message) {
    const { kind, page } = message;
    if (page && page !== this.link.page) return;
    if (kind === "received" || kind === "done") this.link.take(message);
    else if (kind === "news") this.header.onNews(message);
    else if (kind === "cell") this.reply(message.ticket, this.notebook.addCell(message));
    else if (kind === "read_cells") this.reply(message.ticket, this.notebook.cells());
    else this.show(message);
  }

  show(message) {
    if (message.kind === "changes") {
      if (this.sequence === null) return;
      if (message.sequence !== this.sequence + 1) {
        this.sequence = null; // a message is missing
        this.act("hello");
        return;
      }
    }
    const focused = this.root.contains(document.activeElement) && document.activeElement;
    this.sequence = message.sequence;
    this.log.applyAll(message);
    this.compose.stop.hidden = !message.busy;
    if (focused && (focused.hidden || !focused.isConnected)) this.compose.focus();
  }

  // answer what the kernel asked of the notebook
  reply(ticket, value) {
    this.act("reply", { about: ticket, value });
  }

  showNotice(text, overdue = null) {
    this.overdue = overdue;
    this.notice.textContent = text;
    this.notice.hidden = !text;
  }

  // tell a screen reader
  announce(text) {
    this.status.textContent = text;
  }
}

export default {
  render({ model, el }) {
    const panel = new Panel(model, el);
    return () => panel.close();
  },
};
