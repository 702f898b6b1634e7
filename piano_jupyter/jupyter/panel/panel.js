// The panel's view. It has no state of its own: it shows what the kernel sends and reports what was clicked.
//
// From the kernel: "all" (everything, for a new page), "changes" (numbered), "received" and "done" (of an action),
// "cell" (code for a new cell), "read_cells", "attachment" (a figure, an image or a table that the page asked for).
// To the kernel: {do, about, page, action, message}. Only the kernel sends HTML, sanitized; everything else is set as text.

const REPLY_TIMEOUT_MS = 4000; // after which the panel says that the kernel does not answer
const STICKY_DISTANCE_PX = 48; // this close to the end, the log follows new messages
const MAX_SENT_CHARS = 6000; // of the source of a cell, and of each output
const MAX_OUTPUTS = 10; // of a cell
const NO_REPLY =
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

// a cell in the form of a notebook file; of pictures and the like, only what kinds there are
function readCell(cell) {
  const outputs = (cell.outputs?.toJSON() ?? []).slice(0, MAX_OUTPUTS).map(({ output_type, text, data, ename, evalue }) => ({
    output_type,
    ...(text === undefined ? {} : { text: cut(text) }),
    data: Object.fromEntries(Object.entries(data ?? {}).map(([kind, value]) => [kind, kind === "text/plain" ? cut(value) : ""])),
    ename: cut(ename ?? ""),
    evalue: cut(evalue ?? ""),
  }));
  return {
    cell_type: cell.type,
    source: cut(cell.sharedModel.getSource()),
    execution_count: cell.executionCount ?? null,
    outputs,
  };
}

function cut(text) {
  return (Array.isArray(text) ? text.join("") : String(text)).slice(0, MAX_SENT_CHARS);
}

// whether a cell shows this widget
function showsWidget(cell, view) {
  for (let i = 0; i < (cell.outputs?.length ?? 0); i++)
    if (cell.outputs.get(i).data["application/vnd.jupyter.widget-view+json"]?.model_id === view) return true;
  return false;
}

class Panel {
  constructor(model, root) {
    this.model = model;
    this.page = Math.random().toString(36).slice(2);
    this.sequence = null; // of the last changes applied; null before the first
    this.actions = 0;
    this.pending = new Map(); // actions without a reply: their timer and callback
    this.sending = null; // the message that was sent and is not done yet
    this.editing = null; // the question that the next message replaces
    this.nodes = new Map(); // entries and parts by key
    this.attachments = new Map(); // the HTML of those that have come, by hash; "" while one is on its way
    this.build(root);
    this.receive = (message) => this.onMessage(message);
    model.on("msg:custom", this.receive);
    this.act("hello");
  }

  close() {
    this.model.off("msg:custom", this.receive);
    for (const { timer } of this.pending.values()) clearTimeout(timer);
    this.sendToKernel("bye", "", ++this.actions);
  }

  build(root) {
    const title = this.model.get("title");
    this.earlier = make("button", { className: "piano-earlier", textContent: "Show earlier messages", hidden: true });
    this.earlier.onclick = () => this.act("earlier");
    this.entries = make("div", { className: "piano-entries" });
    this.empty = make("p", { className: "piano-empty", textContent: "No messages yet. Ask something below.", hidden: true });
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
      if (event.isComposing || event.keyCode === 229) return; // this Enter only confirms an input method
      event.preventDefault();
      this.submit();
    };
    // keep plain keys and Enter from the notebook, where d d deletes the cell; shortcuts with Ctrl and Meta still work
    this.root.onkeydown = (event) => {
      if ((!event.ctrlKey && !event.metaKey) || event.key === "Enter") event.stopPropagation();
    };
    root.append(this.root);
  }

  // -- to the kernel

  act(what, about = "", onDone = () => {}, action = ++this.actions, message = "") {
    clearTimeout(this.pending.get(action)?.timer);
    const timer = setTimeout(() => this.showNotice(NO_REPLY, action), REPLY_TIMEOUT_MS);
    this.pending.set(action, { timer, onDone });
    this.sendToKernel(what, about, action, message);
    return action;
  }

  sendToKernel(what, about, action, message = "") {
    try {
      this.model.send({ do: what, about, page: this.page, action, message });
    } catch {
      // the kernel is gone: the timer will report it
    }
  }

  submit() {
    const text = this.box.value;
    if (!text.trim()) return;
    const edits = this.editing;
    const same = this.sending?.text === text && this.sending.edits === edits;
    const repeated = same ? this.sending.action : undefined; // the kernel must not run it twice
    if (same && this.overdue !== repeated) return;
    const onDone = (error) => {
      if (this.sending?.action !== action) return; // the box belongs to a newer message
      this.sending = null;
      if (error || this.editing !== edits) return;
      this.edit(null);
      if (!this.box.value.startsWith(text)) return;
      this.box.value = this.box.value.slice(text.length).trimStart();
      this.grow();
    };
    this.toEnd();
    const action = this.act(edits ? "edit" : "send", text, onDone, repeated, edits ?? "");
    this.sending = { text, edits, action };
  }

  edit(key, text = "") {
    this.editing = key;
    this.root.classList.toggle("piano-edits", Boolean(key));
    this.hint.textContent = key ? "Enter asks the edited question; the old one is kept as a branch. Escape cancels" : HINT;
    if (!key) return;
    this.box.value = text;
    this.grow();
    this.box.focus();
  }

  // -- from the kernel

  onMessage(message) {
    const { kind, page } = message;
    if (page && page !== this.page) return;
    if (kind === "received" || kind === "done") return this.onReply(message);
    if (kind === "cell") return this.reply(message.ticket, (notebook) => this.addCell(notebook, message));
    if (kind === "read_cells") return this.reply(message.ticket, (notebook) => [...notebook.cells].map(readCell));
    if (kind === "attachment") return this.fillAttachment(message);
    if (kind === "changes") {
      if (this.sequence === null) return;
      if (message.sequence !== this.sequence + 1) {
        this.sequence = null; // a message is missing
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

  onReply({ kind, action, error }) {
    const known = this.pending.get(action);
    clearTimeout(known?.timer);
    if (this.overdue === action) this.showNotice("");
    if (kind !== "done") return;
    this.pending.delete(action);
    if (error) this.showNotice(error);
    else if (!this.overdue) this.showNotice("");
    known?.onDone(error);
  }

  fillAttachment({ hash, html }) {
    const atEnd = this.isAtEnd();
    this.attachments.set(hash, html);
    for (const node of this.entries.querySelectorAll(`[data-hash="${hash}"]`)) if (html) node.innerHTML = html;
    if (atEnd) this.toEnd();
  }

  // what the kernel asks of the notebook around the panel; not every front end can reach it

  reply(ticket, work) {
    let answer = null;
    try {
      answer = work(this.model.widget_manager.context.model);
    } catch {
      // not JupyterLab, or an incompatible version
    }
    this.act("reply", ticket, undefined, undefined, JSON.stringify(answer));
  }

  // add a cell with code below this one and those added before
  addCell(notebook, { code, view }) {
    const cells = [...notebook.cells];
    const place = cells.findIndex((cell) => cell.id === this.added);
    const at = place >= 0 ? place : cells.findIndex((cell) => showsWidget(cell, view));
    this.added = notebook.sharedModel.insertCell(at < 0 ? cells.length : at + 1, { cell_type: "code", source: code }).id;
    return true;
  }

  // -- what is shown

  apply(change) {
    if ("drop" in change) {
      this.nodes.get(change.drop)?.remove();
      this.nodes.delete(change.drop);
    } else if ("entry" in change) this.showEntry(change);
    else if ("stream" in change) this.appendText(this.nodes.get(change.stream), change);
    else if (change.kind === "text") this.showText(change);
    else this.showCall(change);
  }

  showEntry({ entry: key, after, who, state, note, fraction, text, said: parts, attachments, can }) {
    let node = this.nodes.get(key);
    if (!node) {
      const inside = ["who", "said", "parts", "note", "can", "attachments"].map((name) => make("div", { className: `piano-${name}` }));
      node = make("article", { className: "piano-entry" }, ...inside);
      const before = after && this.nodes.get(after);
      if (before) before.after(node);
      else if (after) this.entries.append(node);
      else this.entries.prepend(node);
      this.nodes.set(key, node);
    }
    const [name, said, , line, actions, attached] = node.children;
    if (node.dataset.state !== state && state !== "said") this.status.textContent = `${who}: ${note || state}`;
    node.dataset.state = state;
    node.classList.toggle("piano-mine", state === "said");
    node.setAttribute("aria-label", who);
    name.textContent = who;
    const inserted = ([label, value]) =>
      make("details", { className: "piano-inserted" }, make("summary", { textContent: label }), make("pre", { textContent: value }));
    said.replaceChildren(...(parts ?? [text]).map((part) => (typeof part === "string" ? part : inserted(part))));
    said.hidden = !text;
    if (attached.childElementCount !== attachments.length) attached.replaceChildren(...this.attachmentNodes(attachments));
    actions.replaceChildren();
    if (can === "edit") actions.append(this.button("Edit", () => this.edit(key, text)));
    if (can === "regenerate") actions.append(this.actionButton("Ask again", "regenerate", key));
    line.replaceChildren();
    line.hidden = state === "said" || state === "done";
    if (line.hidden) return;
    line.append(make("span", { className: ACTIVE.has(state) ? "piano-dots" : "piano-mark", "aria-hidden": "true" }), note);
    if (fraction !== null) line.append(make("progress", { value: fraction, max: 1 }));
    if (state === "queued") line.append(this.actionButton("Cancel", "cancel", key));
    if (state === "failed" || state === "cancelled") line.append(this.actionButton("Retry", "retry", key));
  }

  showText({ part: key, in: entry, html, tail, reasoning, cost }) {
    let node = this.nodes.get(key);
    if (!node) {
      node = make(
        "div",
        { className: "piano-text" },
        make("details", { className: "piano-reasoning" }, make("summary", { textContent: "Reasoning" }), make("div")),
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
    this.appendText(node, { html, tail, reasoning });
  }

  appendText(node, { html, tail, append, reasoning }) {
    if (!node) return;
    const [thoughts, done, last] = node.children;
    if (reasoning) thoughts.lastChild.append(reasoning);
    thoughts.hidden = !thoughts.lastChild.textContent;
    if (append) last.querySelector("code").append(append);
    if (tail === undefined) return;
    last.innerHTML = tail;
    const fresh = make("template", { innerHTML: html }).content;
    for (const block of fresh.querySelectorAll("pre")) block.append(this.copyButton(block));
    done.append(fresh);
  }

  // what shows attachments: their names, until the kernel has sent them
  attachmentNodes(attachments) {
    return attachments.map(([hash, label]) => {
      const node = make("div", { className: "piano-attachment", textContent: `[${label}]` });
      node.dataset.hash = hash;
      const html = this.attachments.get(hash);
      if (html) node.innerHTML = html;
      else if (html === undefined) {
        this.attachments.set(hash, "");
        this.act("attachment", hash, (error) => error && this.attachments.delete(hash));
      }
      return node;
    });
  }

  showCall(change) {
    const { part: key, in: entry, name, preview, arguments: values, result, attachments, state } = change;
    const { flag, question, reason, always, request } = change;
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
      const row = make("div", about, this.actionButton("Deny", "deny", request));
      if (always) {
        const covers = make("div", { className: "piano-why piano-covers" });
        covers.append("Always adds a rule to PianoConfig.rules of the kernel that runs it (add it to ipython_config.py to keep it): ");
        covers.append(make("code", { innerHTML: always, tabIndex: 0 }));
        node.append(covers);
        row.append(this.actionButton("Always", "always", request));
      }
      row.append(this.actionButton("Approve", "approve", request, "piano-send"));
      node.append(row);
    }
    const shown = make("div", { className: "piano-shown" }, ...this.attachmentNodes(attachments)); // also while it is folded
    const old = this.nodes.get(key);
    if (old) {
      node.open ||= old.open && old.dataset.state !== "asks";
      old.nextElementSibling?.replaceWith(shown);
      old.replaceWith(node);
    } else this.nodes.get(entry)?.querySelector(".piano-parts").append(node, shown);
    this.nodes.set(key, node);
  }

  button(label, onclick, className = "") {
    return make("button", { type: "button", textContent: label, className, onclick });
  }

  // a button that starts an action of the kernel; it and its neighbours are disabled unless the action fails
  actionButton(label, what, key, className = "") {
    const click = (event) => {
      const row = [...event.currentTarget.parentElement.querySelectorAll("button")];
      const setDisabled = (disabled) => row.forEach((each) => (each.disabled = disabled));
      this.box.focus({ preventScroll: true }); // a disabled or removed button would lose the focus
      setDisabled(true);
      this.act(what, key, (error) => error && setDisabled(false));
    };
    return this.button(label, click, className);
  }

  copyButton(block) {
    const text = block.textContent;
    const button = this.button("Copy", async () => {
      await navigator.clipboard?.writeText(text);
      button.textContent = "Copied";
    }, "piano-copy");
    return button;
  }

  showNotice(text, overdue = null) {
    this.overdue = overdue; // the action without a reply that the notice is about, if any
    this.notice.textContent = text;
    this.notice.hidden = !text;
  }

  grow() {
    this.box.style.height = "auto";
    this.box.style.height = `${this.box.scrollHeight + 2}px`;
  }

  isAtEnd() {
    return this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < STICKY_DISTANCE_PX;
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
