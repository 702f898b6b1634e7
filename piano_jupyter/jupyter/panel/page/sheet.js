// A sheet over the conversation, such as the list of threads: it keeps the focus, Escape closes it and gives the focus
// back to what opened it, and it is shown again when there is news about its topics.
import { button, make } from "./elements.js";
import { keepingFocus } from "./renewed.js";

const FOCUSABLE = "button:not(:disabled), input:not(:disabled), select, textarea, summary";

export class Sheet {
  // show(sheet) fills it, and does so again after news
  constructor(panel, title, show, topics = []) {
    Object.assign(this, { panel, title, show, topics });
    this.loads = 0;
    this.isStale = false;
    const close = button("Close", () => this.close(), "piano-quiet");
    this.head = make("div", { className: "piano-sheet-head" }, make("h2", { textContent: title }), close);
    this.body = make("div", { className: "piano-sheet-body" });
    const named = { className: "piano-sheet", role: "dialog", "aria-label": title, "aria-modal": "true", tabIndex: -1 };
    this.node = make("div", named, this.head, this.body);
    this.node.onkeydown = (event) => this.onKey(event);
    this.node.addEventListener("focusout", () => setTimeout(() => this.isStale && this.refresh())); // once it has moved
  }

  open(opener) {
    this.panel.sheet?.close();
    this.opener = opener;
    this.panel.sheet = this;
    opener.setAttribute("aria-expanded", "true");
    this.cover(true);
    this.node.append(this.panel.notice, this.panel.reconnect.node); // what went wrong is said where one looks
    this.panel.header.node.after(this.node);
    this.show(this);
    this.focusFirst();
  }

  close() {
    if (this.panel.sheet !== this) return;
    this.panel.sheet = null;
    this.loads++;
    this.opener.setAttribute("aria-expanded", "false");
    this.panel.batches.node.before(this.panel.notice, this.panel.reconnect.node);
    if (!this.panel.isSilent) this.panel.showNotice(""); // it was about the sheet
    this.node.remove();
    this.cover(false);
    if (this.opener.isConnected) this.opener.focus();
    else this.panel.compose.focus();
  }

  cover(covered) {
    this.panel.root.classList.toggle("piano-covered", covered);
    this.panel.log.node.inert = covered;
    this.panel.compose.node.inert = covered;
  }

  focusFirst() {
    (this.node.querySelector("input[type=search]") ?? this.body.querySelector(FOCUSABLE) ?? this.node).focus();
  }

  onKey(event) {
    if (event.isComposing) return;
    if (event.key === "Escape") {
      event.preventDefault();
      this.close();
    } else if (event.key === "Tab") this.keepFocus(event);
  }

  // the last control is followed by the first
  keepFocus(event) {
    const all = [...this.node.querySelectorAll(FOCUSABLE)].filter((each) => each.getClientRects().length);
    const end = event.shiftKey ? all[0] : all.at(-1);
    if (document.activeElement !== end && document.activeElement !== this.node) return;
    event.preventDefault();
    (event.shiftKey ? all.at(-1) : all[0])?.focus();
  }

  // show it again, but not under the hands of somebody who writes in it
  refresh() {
    this.isStale = this.isWritten();
    if (!this.isStale && this.panel.sheet === this) this.show(this);
  }

  isWritten() {
    const active = document.activeElement;
    return (
      this.body.contains(active) && active.matches("input:not([type=checkbox]):not([type=radio]), textarea, select")
    );
  }

  // ask the kernel, and do something with its reply if the sheet still waits for that
  load(what, content, use) {
    const load = ++this.loads;
    const wasWritten = this.isWritten();
    const take = (reply) => {
      this.isStale = this.isWritten() && !wasWritten; // somebody has begun to write meanwhile
      if (!this.isStale) use(reply);
    };
    this.panel.link.ask(what, content).then(
      (reply) => load === this.loads && take(reply),
      (error) => load === this.loads && this.panel.showNotice(error.message),
    );
  }

  // do something in the kernel, then show the sheet again; a failure is shown
  act(what, content, then = () => this.show(this)) {
    this.panel.showNotice("");
    return this.panel.link.ask(what, content).then(then, (error) => this.panel.showNotice(error.message));
  }

  // put nodes into the body; what had the focus has it still, if there is a control of the same name
  replace(...nodes) {
    this.panel.press.after(() => this.put(nodes));
  }

  put(nodes) {
    const top = this.body.scrollTop;
    const isKept = keepingFocus(this.node, () => {
      this.body.replaceChildren(...nodes);
      this.body.scrollTop = top;
    });
    if (!isKept) this.focusFirst();
  }
}

export function note(text) {
  return make("p", { className: "piano-sheet-note", textContent: text });
}
