// The panel's view. It holds no truth: it shows what the kernel sends and tells it what was clicked.
//
// From the kernel: "all" (everything, to a page that said hello), "changes" (numbered), "heard" and "done" (an
// action), "cell" (code for a new one).
// To the kernel: {do, about, page, action}. HTML comes only from the kernel, which has cleaned it; all else is set as text.

const PATIENCE = 4000; // ms until the panel says that the kernel does not answer
const NEAR = 48; // px from the end at which the log sticks to it
const SILENT =
  "The kernel does not answer. It may be busy, or it was restarted: then run %piano panel again. Your text is still here.";
const HINT = "Enter sends, Shift+Enter makes a new line";
const ACTIVE = new Set(["queued", "loading", "thinking", "writing", "calling", "asking"]);

function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// whether a cell's output is this widget
function holds(cell, view) {
  for (let i = 0; i < (cell.outputs?.length ?? 0); i++)
    if (cell.outputs.get(i).data["application/vnd.jupyter.widget-view+json"]?.model_id === view) return true;
  return false;
}

class Panel {
  constructor(model, root) {
    this.model = model;
    this.page = Math.random().toString(36).slice(2);
    this.sequence = null; // of the last changes shown; null: nothing was shown yet
    this.actions = 0;
    this.waiting = new Map(); // action -> what to do when it is heard, late or done
    this.sending = null; // the message that is on its way
    this.editing = null; // the question that the next message takes the place of
    this.nodes = new Map(); // entries and parts by key
    this.build(root);
    this.receive = (message) => this.take(message);
    model.on("msg:custom", this.receive);
    this.act("hello");
  }

  close() {
    this.model.off("msg:custom", this.receive);
    for (const { timer } of this.waiting.values()) clearTimeout(timer);
    this.tell("bye", "", ++this.actions);
  }

  build(root) {
    const title = this.model.get("title");
    this.earlier = make("button", { className: "piano-earlier", textContent: "Show earlier messages", hidden: true });
    this.earlier.onclick = () => this.act("earlier");
    this.entries = make("div", { className: "piano-entries" });
    this.empty = make("p", { className: "piano-empty", textContent: "Nothing said yet. Ask something below.", hidden: true });
    const about = { className: "piano-log", role: "log", tabIndex: 0, "aria-label": `Conversation: ${title}` };
    this.log = make("div", about, this.earlier, this.empty, this.entries);
    this.notice = make("div", { className: "piano-notice", role: "alert", hidden: true });
    this.status = make("div", { className: "piano-unseen", role: "status" });
    this.box = make("textarea", { rows: 1, placeholder: "Ask something…", "aria-label": "Message" });
    this.send = make("button", { type: "submit", className: "piano-send", textContent: "Send" });
    this.stop = make("button", { type: "button", className: "piano-stop", textContent: "Stop", hidden: true });
    this.hint = make("span", { className: "piano-hint", textContent: HINT });
    this.form = make("form", {}, this.box, make("div", { className: "piano-row" }, this.hint, this.stop, this.send));
    this.root = make("section", { className: "piano-panel", "aria-label": `Chat: ${title}` });
    this.root.append(make("header", { className: "piano-title", textContent: title }));
    this.root.append(this.log, this.notice, this.form, this.status);
    this.stop.onclick = () => this.act("stop");
    this.form.onsubmit = (event) => (event.preventDefault(), this.submit());
    this.box.oninput = () => this.grow();
    this.box.onkeydown = (event) => {
      if (event.key === "Escape" && this.editing) this.edit(null);
      if (event.key !== "Enter" || event.shiftKey || event.altKey) return;
      if (event.isComposing || event.keyCode === 229) return; // this Enter ends an input method's composition
      event.preventDefault();
      this.submit();
    };
    // the notebook must not take plain keys as its commands (d d deletes the cell), nor any Enter; chords are the user's
    this.root.onkeydown = (event) => {
      if ((!event.ctrlKey && !event.metaKey) || event.key === "Enter") event.stopPropagation();
    };
    root.append(this.root);
  }

  // -- to the kernel

  act(what, about = "", ended = () => {}, action = ++this.actions, message = "") {
    clearTimeout(this.waiting.get(action)?.timer);
    const timer = setTimeout(() => this.say(SILENT, action), PATIENCE);
    this.waiting.set(action, { timer, ended });
    this.tell(what, about, action, message);
    return action;
  }

  tell(what, about, action, message = "") {
    try {
      this.model.send({ do: what, about, page: this.page, action, message });
    } catch {
      // the kernel is gone: the timer will say so
    }
  }

  submit() {
    const text = this.box.value;
    if (!text.trim()) return;
    const edits = this.editing;
    const same = this.sending?.text === text && this.sending.edits === edits;
    const again = same ? this.sending.action : undefined; // asked again: the kernel must not count it twice
    if (same && this.blame !== again) return;
    const ended = (error) => {
      if (this.sending?.action !== action) return; // something newer is on its way, and the box is about that
      this.sending = null;
      if (error || this.editing !== edits) return;
      this.edit(null);
      if (!this.box.value.startsWith(text)) return;
      this.box.value = this.box.value.slice(text.length).trimStart();
      this.grow();
    };
    this.toEnd();
    const action = this.act(edits ? "edit" : "send", text, ended, again, edits ?? "");
    this.sending = { text, edits, action };
  }

  edit(key, text = "") {
    this.editing = key;
    this.root.classList.toggle("piano-edits", Boolean(key));
    this.hint.textContent = key ? "Enter asks this instead; the old question is kept. Escape leaves it" : HINT;
    if (!key) return;
    this.box.value = text;
    this.grow();
    this.box.focus();
  }

  // -- from the kernel

  take(message) {
    const { kind, page } = message;
    if (page && page !== this.page) return;
    if (kind === "heard" || kind === "done") return this.answer(message);
    if (kind === "cell") return this.addCell(message);
    if (kind === "changes") {
      if (this.sequence === null) return;
      if (message.sequence !== this.sequence + 1) {
        this.sequence = null; // one went missing
        this.act("hello");
        return;
      }
    }
    const atEnd = this.isAtEnd();
    const below = this.log.scrollHeight - this.log.scrollTop;
    const first = this.nodes.size === 0;
    const focused = this.root.contains(document.activeElement) && document.activeElement;
    this.sequence = message.sequence;
    if (kind === "all") {
      this.nodes.clear();
      this.entries.replaceChildren();
      this.earlier.hidden = !message.earlier;
    }
    for (const change of message.changes) this.apply(change);
    this.stop.hidden = !message.busy;
    this.log.setAttribute("aria-busy", message.busy);
    this.empty.hidden = this.entries.childElementCount > 0;
    if (focused && (focused.hidden || !focused.isConnected)) this.box.focus({ preventScroll: true });
    if (atEnd || first) this.toEnd();
    else if (kind === "all") this.log.scrollTop = this.log.scrollHeight - below;
  }

  answer({ kind, action, error }) {
    const known = this.waiting.get(action);
    clearTimeout(known?.timer);
    if (this.blame === action) this.say("");
    if (kind !== "done") return;
    this.waiting.delete(action);
    if (error) this.say(error);
    else if (!this.blame) this.say("");
    known?.ended(error);
  }

  // put code into a new cell below this one, and below those that were added before; not every front end can
  addCell({ code, view, ticket }) {
    let added = false;
    try {
      const notebook = this.model.widget_manager.context.model;
      const cells = [...notebook.cells];
      const place = cells.findIndex((cell) => cell.id === this.added);
      const at = place >= 0 ? place : cells.findIndex((cell) => holds(cell, view));
      this.added = notebook.sharedModel.insertCell(at < 0 ? cells.length : at + 1, { cell_type: "code", source: code }).id;
      added = true;
    } catch {
      // no JupyterLab, or one that has changed
    }
    this.act(added ? "added" : "not_added", ticket);
  }

  // -- what is shown

  apply(change) {
    if ("drop" in change) {
      this.nodes.get(change.drop)?.remove();
      this.nodes.delete(change.drop);
    } else if ("entry" in change) this.showEntry(change);
    else if ("stream" in change) this.showNews(this.nodes.get(change.stream), change);
    else if (change.kind === "text") this.showText(change);
    else this.showCall(change);
  }

  showEntry({ entry: key, after, who, state, note, fraction, text, can }) {
    let node = this.nodes.get(key);
    if (!node) {
      const inside = ["who", "said", "parts", "note", "can"].map((name) => make("div", { className: `piano-${name}` }));
      node = make("article", { className: "piano-entry" }, ...inside);
      const before = after && this.nodes.get(after);
      if (before) before.after(node);
      else if (after) this.entries.append(node);
      else this.entries.prepend(node);
      this.nodes.set(key, node);
    }
    const [name, said, , line, ways] = node.children;
    if (node.dataset.state !== state && state !== "said") this.status.textContent = `${who}: ${note || state}`;
    node.dataset.state = state;
    node.classList.toggle("piano-mine", state === "said");
    node.setAttribute("aria-label", who);
    name.textContent = who;
    said.textContent = text;
    said.hidden = !text;
    ways.replaceChildren();
    if (can === "edit") ways.append(this.button("Edit", () => this.edit(key, text)));
    if (can === "regenerate") ways.append(this.doer("Ask again", "regenerate", key));
    line.replaceChildren();
    line.hidden = state === "said" || state === "done";
    if (line.hidden) return;
    line.append(make("span", { className: ACTIVE.has(state) ? "piano-dots" : "piano-mark", "aria-hidden": "true" }), note);
    if (fraction !== null) line.append(make("progress", { value: fraction, max: 1 }));
    if (state === "queued") line.append(this.doer("Cancel", "cancel", key));
    if (state === "failed" || state === "cancelled") line.append(this.doer("Retry", "retry", key));
  }

  showText({ part: key, in: entry, html, tail, reasoning, cost }) {
    let node = this.nodes.get(key);
    if (!node) {
      node = make(
        "div",
        { className: "piano-text" },
        make("details", { className: "piano-reasoning" }, make("summary", { textContent: "Thoughts" }), make("div")),
        make("div", { className: "piano-done" }),
        make("div", { className: "piano-tail" }),
        make("div", { className: "piano-cost" }),
      );
      this.nodes.get(entry)?.querySelector(".piano-parts").append(node);
      this.nodes.set(key, node);
    }
    const [thoughts, done, , below] = node.children;
    below.innerHTML = cost ?? "";
    done.replaceChildren();
    thoughts.lastChild.textContent = "";
    this.showNews(node, { html, tail, reasoning });
  }

  showNews(node, { html, tail, append, reasoning }) {
    if (!node) return;
    const [thoughts, done, last] = node.children;
    if (reasoning) thoughts.lastChild.append(reasoning);
    thoughts.hidden = !thoughts.lastChild.textContent;
    if (append) last.querySelector("code").append(append);
    if (tail === undefined) return;
    last.innerHTML = tail;
    const fresh = make("template", { innerHTML: html }).content;
    for (const block of fresh.querySelectorAll("pre")) block.append(this.copier(block));
    done.append(fresh);
  }

  showCall({ part: key, in: entry, name, preview, arguments: values, result, state, flag, question, reason, always, request }) {
    const head = make(
      "summary",
      {},
      make("code", { innerHTML: name }),
      make("span", { className: "piano-preview", innerHTML: preview }),
      make("span", { className: "piano-state", textContent: state === "asks" ? "" : state }),
    );
    const node = make("details", { className: "piano-call", open: Boolean(question) }, head);
    node.dataset.state = state;
    const list = make("dl");
    const add = (title, value) =>
      list.append(make("dt", { innerHTML: title }), make("dd", {}, make("pre", { innerHTML: value, tabIndex: 0 })));
    for (const [title, value] of values) add(title, value);
    if (result !== null) add("result", result);
    if (question) head.replaceChildren(make("span", { className: "piano-question", textContent: question }));
    if (flag) head.append(make("span", { className: "piano-flag", innerHTML: flag }));
    if (reason) node.append(make("div", { className: "piano-why", innerHTML: reason }));
    node.append(list);
    if (question) {
      const about = { className: "piano-row", role: "group", "aria-label": question };
      const row = make("div", about, this.doer("Deny", "deny", request));
      if (always) {
        const covers = make("div", { className: "piano-why piano-covers" });
        covers.append("Always adds a rule to this kernel's PianoConfig.rules (put it into ipython_config.py to keep it): ");
        covers.append(make("code", { innerHTML: always, tabIndex: 0 }));
        node.append(covers);
        row.append(this.doer("Always", "always", request));
      }
      row.append(this.doer("Approve", "approve", request, "piano-send"));
      node.append(row);
    }
    const old = this.nodes.get(key);
    if (old) {
      node.open ||= old.open && old.dataset.state !== "asks";
      old.replaceWith(node);
    } else this.nodes.get(entry)?.querySelector(".piano-parts").append(node);
    this.nodes.set(key, node);
  }

  button(label, onclick, className = "") {
    return make("button", { type: "button", textContent: label, className, onclick });
  }

  // a button that has the kernel do something, once: it and those beside it rest, unless that fails
  doer(label, what, key, className = "") {
    const click = (event) => {
      const row = [...event.currentTarget.parentElement.querySelectorAll("button")];
      const rest = (disabled) => row.forEach((each) => (each.disabled = disabled));
      this.box.focus({ preventScroll: true }); // a button that is disabled or gone would leave the focus nowhere
      rest(true);
      this.act(what, key, (error) => error && rest(false));
    };
    return this.button(label, click, className);
  }

  copier(block) {
    const text = block.textContent;
    const button = this.button("Copy", async () => {
      await navigator.clipboard?.writeText(text);
      button.textContent = "Copied";
    }, "piano-copy");
    return button;
  }

  say(text, blame = null) {
    this.blame = blame; // the action that was not answered, if that is what is said
    this.notice.textContent = text;
    this.notice.hidden = !text;
  }

  grow() {
    this.box.style.height = "auto";
    this.box.style.height = `${this.box.scrollHeight + 2}px`;
  }

  isAtEnd() {
    return this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < NEAR;
  }

  toEnd() {
    this.log.scrollTop = this.log.scrollHeight;
    if (document.activeElement === this.box) this.form.scrollIntoView({ block: "nearest" });
  }
}

export default {
  render({ model, el }) {
    const panel = new Panel(model, el);
    return () => panel.close();
  },
};
