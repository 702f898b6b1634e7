// The list of threads: find one, open it, and rename, archive, fork, export or delete it.
import { timeOrDay } from "./elapsed.js";
import { button, make } from "./elements.js";
import { icon } from "./icons.js";
import { Sheet, note } from "./sheet.js";

const SEARCH_DELAY_MS = 200; // after the last key
const FORMAT_NAMES = { markdown: "Markdown", notebook: "Notebook", html: "HTML", jsonl: "JSON Lines" };

export class ThreadList {
  constructor(panel) {
    this.panel = panel;
    this.unfolded = null; // the id of the thread whose actions are shown
    this.asks = null; // the id of the thread that is to be deleted, if that was not confirmed yet
    this.renames = null; // the id of the thread whose title is written
    this.showsArchived = false;
    this.sheet = new Sheet(panel, "Threads", () => this.load(), ["threads"]);
    this.search = make("input", {
      type: "search",
      placeholder: "Search titles and messages",
      "aria-label": "Search threads",
    });
    this.search.oninput = () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.load(), SEARCH_DELAY_MS);
    };
    this.search.onkeydown = (event) => {
      if (event.key === "Enter" && !event.isComposing) this.sheet.body.querySelector(".piano-thread-open")?.click();
    };
    const fresh = button("New thread", () => this.run("open_thread", {}), "piano-send");
    this.sheet.head.after(make("div", { className: "piano-sheet-tools" }, this.search, fresh));
  }

  open(opener) {
    this.unfolded = this.asks = this.renames = null;
    this.search.value = "";
    this.sheet.open(opener);
  }

  load() {
    this.sheet.load("threads", { about: this.search.value }, (reply) => this.show(reply));
  }

  show({ threads, left, formats }) {
    this.reply = { threads, left, formats };
    const rows = threads.filter((each) => !each.archived).map((each) => this.row(each));
    const archived = threads.filter((each) => each.archived);
    const nodes = [make("div", { className: "piano-threads" }, ...rows)];
    if (!threads.length) nodes.push(note(this.search.value ? "Nothing found." : "No threads yet."));
    if (archived.length) nodes.push(this.archived(archived));
    if (left) nodes.push(note(`${left} more: search for them.`));
    this.sheet.replace(...nodes);
  }

  again() {
    this.show(this.reply);
  }

  // what unfolds below a thread may be below the end of what is seen
  unfold() {
    this.again();
    this.sheet.body.querySelector(".piano-actions")?.closest(".piano-thread").scrollIntoView({ block: "nearest" });
  }

  archived(threads) {
    const title = make("summary", { textContent: `Archived (${threads.length})` });
    title.dataset.key = "archived";
    const open = this.showsArchived || Boolean(this.search.value);
    const folded = make("details", { open }, title, ...threads.map((each) => this.row(each)));
    title.onclick = () => (this.showsArchived = !folded.open); // "toggle" may come after news that shows the list again
    return folded;
  }

  row(thread) {
    const { id, title, shown } = thread;
    const isUnfolded = this.unfolded === id;
    const head = this.renames === id ? this.titleBox(thread) : this.opener(thread);
    const more = make("button", {
      type: "button",
      className: "piano-quiet piano-more",
      "aria-label": `Actions for ${title}`,
    });
    more.append(icon("more"));
    more.dataset.key = `more ${id}`;
    more.setAttribute("aria-expanded", isUnfolded);
    more.onclick = () => {
      this.unfolded = isUnfolded ? null : id;
      this.asks = null;
      this.unfold();
    };
    const node = make(
      "div",
      { className: "piano-thread" },
      make("div", { className: "piano-thread-head" }, head, more),
    );
    node.classList.toggle("piano-shown-thread", shown);
    if (this.asks === id) node.append(...this.question(thread));
    else if (isUnfolded) node.append(this.actions(thread));
    return node;
  }

  opener({ id, title, messages, last, elsewhere, shown, excerpt }) {
    const open = make("button", { type: "button", className: "piano-thread-open" });
    const count = `${messages.toLocaleString()} ${messages === 1 ? "message" : "messages"}`;
    open.append(make("span", { className: "piano-thread-title", textContent: title }));
    if (excerpt) open.append(make("span", { className: "piano-excerpt", textContent: excerpt }));
    const about = [shown ? "shown" : "", timeOrDay(last), count].filter(Boolean).join(" · ");
    const meta = make("span", { className: "piano-meta", textContent: about });
    if (elsewhere) meta.append(" · in ", make("bdi", { textContent: elsewhere }));
    open.append(meta);
    if (shown) open.setAttribute("aria-current", "true");
    open.dataset.key = `open ${id}`;
    open.onclick = () => this.run("show", { about: id });
    return open;
  }

  actions(thread) {
    const { id, archived } = thread;
    const about = { thread: id };
    const row = make("div", { className: "piano-actions", role: "group", "aria-label": `Actions for ${thread.title}` });
    const add = (label, click) => {
      const node = button(label, click);
      node.dataset.key = `${label} ${id}`;
      row.append(node);
    };
    add("Rename", () => {
      this.renames = id;
      this.again();
      this.sheet.body.querySelector(".piano-rename")?.select();
    });
    add("Fork", () => this.run("fork", about));
    add(archived ? "Unarchive" : "Archive", () => this.sheet.act(archived ? "unarchive" : "archive", about));
    for (const form of this.reply.formats)
      add(`Export as ${FORMAT_NAMES[form] ?? form}`, () =>
        this.sheet.act("export", { ...about, format: form }, download),
      );
    add("Delete…", () => {
      this.asks = id;
      this.unfold();
    });
    return row;
  }

  question(thread) {
    const { id, title, messages } = thread;
    const text = make(
      "div",
      { className: "piano-ask", role: "alert" },
      "Delete ",
      make("bdi", { textContent: `“${title}”` }),
    );
    const what = messages ? ` with its ${messages === 1 ? "message" : `${messages.toLocaleString()} messages`}` : "";
    text.append(`${what} for good, from the history and its copies?`);
    const keep = button("Keep it", () => {
      this.asks = null;
      this.again();
    });
    keep.dataset.key = `Delete… ${id}`; // it has the focus after the button that asked
    const really = button(
      "Delete for good",
      () => {
        this.sheet.node.focus(); // a disabled button would lose the focus to the notebook
        really.disabled = keep.disabled = true;
        this.sheet.act("delete", { thread: id }, (left) => {
          this.asks = this.unfolded = null;
          if (left.length) this.panel.showNotice(left.join("\n"));
          this.load();
        });
      },
      "piano-stop",
    );
    return [text, make("div", { className: "piano-actions" }, keep, really)];
  }

  titleBox({ id, title }) {
    const box = make("input", {
      className: "piano-rename",
      value: title,
      maxLength: 60,
      "aria-label": `New title of ${title}`,
    });
    box.dataset.key = `Rename ${id}`;
    let ended = false;
    const end = (keep) => {
      if (ended) return;
      ended = true;
      this.renames = null;
      const written = box.value.trim();
      if (keep && written && written !== title) this.sheet.act("rename", { about: written, thread: id });
      else this.again();
    };
    box.onkeydown = (event) => {
      if (event.isComposing || !["Enter", "Escape"].includes(event.key)) return;
      event.preventDefault();
      event.stopPropagation();
      end(event.key === "Enter");
    };
    box.onblur = () => end(true);
    return box;
  }

  // do something after which another thread is shown
  run(what, content) {
    this.sheet.act(what, content, () => {
      this.sheet.close();
      this.panel.log.toEnd();
      this.panel.compose.focus();
    });
  }
}

// save a text as a file of the user's, as a link with the attribute "download" does
function download({ name, type, text }) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
