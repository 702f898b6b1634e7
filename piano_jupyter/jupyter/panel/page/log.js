// The conversation: entries (a question; the work of one job) and their parts (texts, tool calls), as the kernel sends them.
import { branchNodes } from "./branches.js";
import { actionButton, callNodes } from "./calls.js";
import { copyFrom } from "./clipboard.js";
import { Elapsed, timeOfDay } from "./elapsed.js";
import { button, make, named } from "./elements.js";
import { Jump } from "./jump.js";
import { become, keepingFocus } from "./renewed.js";
import { appendText, showText } from "./text.js";

const STICKY_DISTANCE_PX = 48; // this close to the end, the log follows new messages
const ACTIVE = new Set(["queued", "loading", "thinking", "writing", "calling", "asking"]);
const ENTRY_ROWS = ["who", "said", "attachments", "parts", "note", "can"];
const HUES = 14; // of authors' names, 20 degrees apart

export class Log {
  constructor(panel) {
    this.panel = panel;
    this.nodes = new Map(); // entries and parts by key
    this.unfolded = []; // when everything was sent last: keys of nodes, and which of their details
    this.asking = new Set(); // the cards of calls that wait for an answer
    this.filling = null; // the number of the "all" that older entries still come for; null once all have come
    this.place = null; // where new entries go
    this.branchToShow = null; // the version that was asked for: its id, its place and the button that was clicked
    this.earlier = button("Show earlier messages", () => panel.act("earlier"), "piano-earlier");
    this.earlier.hidden = true;
    this.entries = make("div", { className: "piano-entries" });
    this.empty = make("p", {
      className: "piano-empty",
      textContent: "No messages yet. Ask something below.",
      hidden: true,
    });
    this.node = make(
      "div",
      { className: "piano-log", role: "log", tabIndex: 0 },
      this.earlier,
      this.empty,
      this.entries,
    );
    this.elapsed = new Elapsed(panel);
    this.jump = new Jump(this);
    this.follows = true; // whether the end is to stay in sight, whatever changes its height
    this.top = 0; // where that was last
    this.node.addEventListener("scroll", () => this.onScroll(), { passive: true });
    this.sizes = new ResizeObserver(() => this.isFollowing() && this.toEnd());
    this.sizes.observe(this.node);
    this.sizes.observe(this.entries);
  }

  // apply "all" or "changes"; the end stays in sight if it was, else what is read stays where it is
  applyAll({ kind, changes, busy, earlier, filling, now }) {
    this.elapsed.setNow(now);
    const isFirst = this.nodes.size === 0;
    const wasAtEnd = this.isFollowing();
    const below = this.node.scrollHeight - this.node.scrollTop;
    if (kind === "all") {
      this.unfolded = [...this.nodes].flatMap(([key, node]) => openDetails(node).map((at) => [key, at]));
      this.nodes.clear();
      this.asking.clear();
      this.entries.replaceChildren();
      this.earlier.hidden = !earlier;
      this.filling = filling;
    }
    for (const change of changes) {
      if (kind === "changes" && !wasAtEnd && "entry" in change && !this.nodes.has(change.entry)) this.jump.count();
      this.apply(change);
    }
    if (kind === "all") this.unfold();
    this.node.setAttribute("aria-busy", busy);
    this.empty.hidden = this.entries.childElementCount > 0;
    if (wasAtEnd || isFirst) this.toEnd();
    else if (kind === "all") this.node.scrollTop = this.node.scrollHeight - below;
    if (kind === "all") this.findBranch();
    this.jump.update(wasAtEnd || isFirst);
  }

  // show another version; `step` is the button that was clicked, which keeps the focus and its place
  showBranch(shown, target, step) {
    const { top } = this.entries.querySelector(`[data-branch="${shown}"]`).getBoundingClientRect();
    this.branchToShow = { target, step, top };
    this.panel.act("branch", { about: target }, (error) => error && (this.branchToShow = null));
  }

  findBranch() {
    const { target, step, top } = this.branchToShow ?? {};
    const group = target && this.entries.querySelector(`[data-branch="${target}"]`);
    if (!group) return;
    this.branchToShow = null;
    this.node.scrollTop += group.getBoundingClientRect().top - top;
    const buttons = [...group.querySelectorAll("button:not(:disabled)")];
    (buttons.find((each) => each.dataset.step === step) ?? buttons[0])?.focus({ preventScroll: true });
    this.panel.announce(group.ariaLabel);
  }

  // put older entries before all others
  addOlder({ kind, changes, filling }) {
    if (filling !== this.filling) return; // of what is no longer shown
    if (kind === "complete") return (this.filling = null);
    const fragment = document.createDocumentFragment();
    this.place = fragment;
    for (const change of changes) this.apply(change);
    this.place = null;
    this.unfold();
    this.keepingItsEnd(() => this.entries.prepend(fragment));
  }

  // what was unfolded before everything was sent again is so again
  unfold() {
    for (const [key, at] of this.unfolded) {
      const found = this.nodes.has(key) && detailsOf(this.nodes.get(key))[at];
      if (found) found.open = true;
    }
  }

  apply(change) {
    if ("drop" in change) {
      this.nodes.get(change.drop)?.remove();
      this.nodes.delete(change.drop);
    } else if ("entry" in change) this.showEntry(change);
    else if ("stream" in change) appendText(this, this.nodes.get(change.stream), change);
    else if (change.kind === "text") showText(this, change);
    else this.showCall(change);
  }

  // the element that holds the parts of an entry
  partsOf(entry) {
    return this.nodes.get(entry)?.querySelector(".piano-parts");
  }

  showEntry(change) {
    const { entry: key, after, who, state, note, text, attachments } = change;
    const node = this.nodes.get(key) ?? this.addEntry(key, after);
    if (!node) return;
    const [name, said, attached, , line, actions] = node.children;
    if (node.dataset.state !== state && state !== "said") this.panel.announce(`${who}: ${note || state}`);
    node.dataset.state = state;
    node.classList.toggle("piano-mine", state === "said");
    node.setAttribute("aria-label", who);
    name.textContent = who;
    name.style.setProperty("--hue", hueOf(change.author));
    if (!said.hasChildNodes())
      said.append(...(change.said ?? [text]).map((part) => (typeof part === "string" ? part : inserted(part))));
    said.hidden = !text;
    if (attached.childElementCount !== attachments.length)
      attached.replaceChildren(...this.panel.attachments.nodes(attachments));
    become(actions, make("div", {}, ...branchNodes(this, change), ...this.actionNodes(change)));
    this.showState(line, change);
  }

  // the buttons of an entry; their names tell one "Edit" from another
  actionNodes({ entry: key, who, text, state, can, begun }) {
    if (state === "said") {
      const edit = named(
        button("Edit", () => this.panel.compose.edit(key, text), "piano-quiet"),
        text,
      );
      const time = begun ? [make("time", { textContent: timeOfDay(begun) })] : [];
      return [...time, ...(can === "edit" ? [edit] : [])];
    }
    if (ACTIVE.has(state)) return [];
    const copy = button(
      "Copy",
      () => copyFrom(this.panel, copy, () => this.panel.link.ask("markdown", { about: key })),
      "piano-quiet",
    );
    const again = actionButton(this.panel, "Ask again", "regenerate", key, "piano-quiet");
    const about = `${who}, ${this.questionBefore(key)}`;
    return [named(copy, about), ...(can === "regenerate" ? [named(again, about)] : [])];
  }

  questionBefore(key) {
    let node = this.nodes.get(key);
    while (node && node.dataset.state !== "said") node = node.previousElementSibling;
    return node?.querySelector(".piano-said").textContent ?? "";
  }

  // return a new entry; none if it belongs to what is still to come
  addEntry(key, after) {
    const before = after && this.nodes.get(after);
    if (after && !before && !this.place && this.filling !== null && this.nodes.size) return null;
    const node = make("article", { className: "piano-entry" });
    node.append(...ENTRY_ROWS.map((name) => make("div", { className: `piano-${name}` })));
    const place = this.place ?? this.entries;
    if (before && place.contains(before)) before.after(node);
    else if (after) place.append(node);
    else place.prepend(node);
    this.nodes.set(key, node);
    return node;
  }

  showState(line, { entry: key, state, note, fraction, begun }) {
    line.hidden = state === "said" || state === "done";
    const sign = make("span", { className: ACTIVE.has(state) ? "piano-dots" : "piano-mark", "aria-hidden": "true" });
    const now = make("div", {}, sign, note);
    if (begun && ACTIVE.has(state) && state !== "queued") now.append(this.elapsed.node(begun));
    if (fraction !== null) now.append(make("progress", { value: fraction, max: 1 }));
    if (state === "queued")
      now.append(named(actionButton(this.panel, "Cancel", "cancel", key), this.questionBefore(key)));
    if (state === "failed" || state === "cancelled")
      now.append(named(actionButton(this.panel, "Retry", "retry", key), this.questionBefore(key)));
    become(line, line.hidden ? make("div") : now);
  }

  showCall(change) {
    if (!this.partsOf(change.in)) return;
    const [node, shown] = callNodes(this.panel, change);
    const old = this.nodes.get(change.part);
    this.asking.delete(old);
    if (change.question) this.asking.add(node);
    if (old) {
      node.open ||= old.open && old.dataset.state !== "asks";
      old.nextElementSibling?.replaceWith(shown);
      keepingFocus(this.partsOf(change.in), () => old.replaceWith(node));
    } else this.partsOf(change.in).append(node, shown);
    this.nodes.set(change.part, node);
  }

  isAtEnd() {
    return this.node.scrollHeight - this.node.scrollTop - this.node.clientHeight < STICKY_DISTANCE_PX;
  }

  close() {
    this.elapsed.close();
    this.sizes.disconnect();
  }

  // a reader may have scrolled up, and the event is still to come; and what somebody is about to allow must not give way
  // to another question under the pointer
  isFollowing() {
    if ([...this.asking].some((card) => card.matches(":hover, :focus-within"))) return false;
    return this.follows && (this.node.scrollTop >= this.top - 1 || this.isAtEnd());
  }

  onScroll() {
    this.follows = this.isAtEnd();
    this.jump.update();
  }

  toEnd() {
    this.follows = true;
    this.node.scrollTop = this.entries.childElementCount ? this.node.scrollHeight : 0;
    this.top = this.node.scrollTop;
    this.panel.compose.intoView();
  }

  // do something that changes heights; the end stays in sight if it was
  keepingItsEnd(work) {
    const follows = this.isFollowing();
    work();
    if (follows) this.toEnd();
  }
}

// the same hue for the same agent, whatever it is called; never red, which is the colour of errors
function hueOf(author) {
  let sum = 0;
  for (const letter of author ?? "") sum = (sum * 31 + letter.codePointAt(0)) % 9973;
  return 40 + (sum % HUES) * 20;
}

function inserted([label, value]) {
  const shown = make("pre", { textContent: value });
  return make("details", { className: "piano-inserted" }, make("summary", { textContent: label }), shown);
}

// what of a question, a text or a call can be unfolded
function detailsOf(node) {
  return node.matches("details")
    ? [node]
    : [...node.querySelectorAll(":scope > details, :scope > .piano-said > details")];
}

// the places of those that are
function openDetails(node) {
  return detailsOf(node).flatMap(({ open }, at) => (open ? [at] : []));
}
