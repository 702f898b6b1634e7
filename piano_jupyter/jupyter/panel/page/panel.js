// The chat panel. It has no state of its own: it shows what the kernel sends and reports what was clicked.
//
// From the kernel: "all" (for a new page, everything or the last of it), then "older" (bit by bit) and "complete";
// "changes" (numbered), "received" and "done" (of an action), "cell" (code for a new cell), "read_cells", "ping" (is this page
// still open?), "news" (something beside the conversation has changed).
// To the kernel: {do, page, action, ...}. Only the kernel sends HTML, sanitized; everything else is set as text.
import { Attachments } from "./attachments.js";
import { Batches } from "./batches.js";
import { Compose } from "./compose.js";
import { make } from "./elements.js";
import { Header } from "./header.js";
import { KernelLink } from "./kernel_link.js";
import { LastThread } from "./last_thread.js";
import { Log } from "./log.js";
import { Notebook } from "./notebook.js";
import { Find, isFindShortcut } from "./find.js";
import { Press } from "./press.js";
import { Proposals } from "./proposals.js";
import { Reconnect } from "./reconnect.js";
import { Room } from "./room.js";

const NO_REPLY =
  "The kernel does not answer. It may be busy, or it was restarted: then run %piano panel again. Your text is still here.";
const OUR_KEYS = new Set(["enter", "z", "y"]); // with Ctrl and Meta, too: the last two undo and redo what is typed

class Panel {
  constructor(model, place) {
    this.model = model;
    this.sequence = null; // of the last changes applied; null before the first
    this.sheet = null; // what covers the conversation, if something does
    this.isSilent = false; // whether the notice is about a kernel that does not answer
    this.covered = ""; // what the notice said before that
    this.link = new KernelLink(model, {
      onSilence: () => this.showNotice(NO_REPLY, true),
      onReply: () => this.isSilent && this.showNotice(this.covered),
    });
    this.notebook = new Notebook(model, place);
    this.attachments = new Attachments(this);
    this.build(place);
    this.receive = (message) => this.onMessage(message);
    this.onTitle = () => this.header.showTitle();
    model.on("msg:custom", this.receive);
    model.on("change:title", this.onTitle);
    this.lastThread = new LastThread(this);
    this.act("hello", this.lastThread.get());
    this.batches.load();
    this.watchForEyes();
  }

  build(place) {
    this.root = make("section", { className: "piano-panel" });
    this.press = new Press();
    this.press.watch(this.root);
    this.notice = make("div", { className: "piano-notice", role: "alert", hidden: true });
    this.status = make("div", { className: "piano-unseen", role: "status" });
    this.log = new Log(this);
    this.compose = new Compose(this);
    this.header = new Header(this);
    this.find = new Find(this);
    this.proposals = new Proposals(this);
    this.reconnect = new Reconnect(this);
    this.batches = new Batches(this);
    const { jump } = this.log;
    this.root.append(this.header.node, this.find.node, this.log.node, jump.node, this.proposals.node, this.notice);
    this.root.append(this.reconnect.node, this.batches.node, this.compose.node, this.status);
    this.room = new Room(this.root, () => this.compose.fit());
    this.keepKeys();
    place.append(this.root);
    this.room.watch();
  }

  // keep plain keys, Enter and undo from the notebook, where d d deletes the cell; other shortcuts with Ctrl and Meta
  // still work.
  // Notebook 7 looks at keys before they get here, but not at those that are pressed in an element with this attribute
  keepKeys() {
    const isOurs = (event) =>
      (!event.ctrlKey && !event.metaKey) || OUR_KEYS.has(event.key.toLowerCase()) || isFindShortcut(event);
    this.onKey = (event) => {
      if (this.root.contains(event.target)) event.target.toggleAttribute("data-lm-suppress-shortcuts", isOurs(event));
    };
    window.addEventListener("keydown", this.onKey, true);
    // JupyterLab prevents undo and line breaks in its cells
    this.onWrite = (event) => this.root.contains(event.target) && event.stopPropagation();
    window.addEventListener("beforeinput", this.onWrite, true);
    this.root.onkeydown = (event) => isOurs(event) && event.stopPropagation();
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
    window.removeEventListener("keydown", this.onKey, true);
    window.removeEventListener("beforeinput", this.onWrite, true);
    this.log.close();
    this.notebook.close();
    this.find.close();
    this.proposals.close();
    this.eyes.disconnect();
    this.header.close();
    this.model.off("msg:custom", this.receive);
    this.model.off("change:title", this.onTitle);
    this.compose.close();
    this.reconnect.close();
    this.batches.close();
    this.room.close();
    this.press.close();
    this.link.close();
  }

  // have the kernel do something; a failure is shown, and told to onDone(error); success ends what was said before it
  act(what, content = {}, onDone = () => {}, action = undefined) {
    const before = this.notice.textContent;
    const done = ({ error, reply }) => {
      if (error) this.showNotice(error);
      else if (!this.isSilent && this.notice.textContent === before) this.showNotice("");
      onDone(error, reply);
    };
    return this.link.request(what, content, done, action);
  }

  onMessage(message) {
    const { kind, page } = message;
    if (page && page !== this.link.page) return;
    if (kind === "received" || kind === "done") this.link.take(message);
    else if (kind === "news") {
      this.header.onNews(message);
      this.batches.onNews(message);
    } else if (kind === "cell") this.reply(message.ticket, this.proposals.add(message));
    else if (kind === "expect_cell") this.proposals.expect(message);
    else if (kind === "read_cells") this.reply(message.ticket, this.notebook.cells());
    else if (kind === "ping") this.link.tell("here");
    else this.press.after(() => this.show(message));
  }

  show(message) {
    if (message.kind === "older" || message.kind === "complete") {
      this.log.addOlder(message);
      return this.find.refresh();
    }
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
    this.find.refresh();
    if (message.kind === "all") {
      this.lastThread.set(message.thread, message.kernel);
      this.compose.drafts.open(message.thread);
    }
    this.compose.stop.hidden = !message.busy;
    const isLost = focused && (focused.hidden || !focused.isConnected);
    if (isLost && (document.activeElement === focused || !this.root.contains(document.activeElement)))
      this.compose.focus();
  }

  // answer what the kernel asked of the notebook
  reply(ticket, value) {
    this.link.tell("reply", { about: ticket, value });
  }

  showNotice(text, isSilent = false) {
    if (this.reconnect.gone && isSilent) return; // it is said already, and what to do
    if (isSilent && !this.isSilent) this.covered = this.notice.textContent;
    this.isSilent = isSilent;
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
    // from the state of widgets in a file, without a kernel: the saved conversation is shown in its place
    if (el.closest(".jupyter-widgets-disconnected")) return undefined;
    const panel = new Panel(model, el);
    return () => panel.close();
  },
};
