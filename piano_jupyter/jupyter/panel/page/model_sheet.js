// The model that answers, with its state, and what tools may do. It asks the server only when it is looked at.
import { button, make } from "./elements.js";
import { Sheet } from "./sheet.js";

const LEAST_INTERVAL_MS = 3000; // between two requests for the state that nobody has clicked for
const STATE_NAMES = {
  loaded: "loaded",
  loading: "loading",
  unloading: "being unloaded",
  unloaded: "not loaded",
  embedded: "embedded model",
  "no server": "no server",
  "not served": "not on this server",
};
const FULL =
  "With full, agents can change and delete anything of yours, and reach the network. Each call still follows your rules.";

export class ModelSheet {
  // tell({ models, loading }, mode) is called whenever something is known
  constructor(panel, tell) {
    this.panel = panel;
    this.tell = tell;
    this.models = [];
    this.loading = null; // how far the loading of a model is, as the kernel told last
    this.askedAt = -Infinity;
    this.sheet = new Sheet(panel, "Model and tools", () => this.load(), ["model", "settings"]);
  }

  open(opener) {
    this.wantsFull = false;
    this.sheet.open(opener);
  }

  load() {
    this.loadMode();
    this.loadModels();
  }

  loadMode() {
    this.ask("mode", ({ mode, modes }) => Object.assign(this, { mode, modes }));
  }

  loadModels() {
    this.askedAt = performance.now();
    this.ask("model", ({ models }) => {
      this.models = models;
      if (!models.some(({ state }) => state === "loading")) this.loading = null;
    });
  }

  // ask the kernel; a failure is shown only where somebody looks for the answer
  ask(what, use) {
    const done = ({ error, reply }) => {
      if (!error) use(reply);
      else if (this.panel.sheet === this.sheet) this.panel.showNotice(error);
      this.changed();
    };
    this.panel.link.request(what, {}, done);
  }

  // after news: not more often than every few seconds, and not while nobody sees it
  loadSoon(loading) {
    if (loading) {
      this.loading = loading;
      this.changed();
    }
    clearTimeout(this.timer);
    this.timer = setTimeout(
      () => this.panel.isSeen() && this.loadModels(),
      Math.max(0, this.askedAt + LEAST_INTERVAL_MS - performance.now()),
    );
  }

  changed() {
    this.tell({ models: this.models, loading: this.loading, mode: this.mode });
    if (this.panel.sheet === this.sheet && this.mode) this.show();
  }

  close() {
    clearTimeout(this.timer);
  }

  show() {
    const models = this.models.map((model) => this.model(model));
    const waits = make("p", { className: "piano-sheet-note", textContent: "Asking the server…" });
    const more = button("Settings…", () => this.panel.header.settings.open(this.sheet.opener));
    more.dataset.key = "settings";
    this.sheet.replace(
      ...(models.length ? models : [waits]),
      more,
      make("h3", { textContent: "What tools may do" }),
      this.modeChoice(),
    );
  }

  model({ model, answering_model, server, state, swaps, note }) {
    const isLoading = this.loading && state !== "loaded";
    const head = make("div", { className: "piano-model-head" }, dot(isLoading ? "loading" : state));
    head.append(
      make("strong", { textContent: answering_model }),
      make("span", { className: "piano-meta", textContent: STATE_NAMES[state] ?? state }),
    );
    const node = make("div", { className: "piano-model" }, head);
    const line = (text) => node.append(make("div", { className: "piano-meta", textContent: text }));
    if (answering_model !== model) line(`instead of ${model}`);
    if (server && server !== "embedded") line(server);
    if (isLoading) node.append(...loadingNodes(this.loading));
    else if (note) line(note);
    if (swaps) node.append(this.swapButtons(model, state));
    return node;
  }

  swapButtons(model, state) {
    const add = (label, what, disabled) => {
      const node = button(label, () => {
        this.sheet.act(what, { about: model });
        if (what === "load_model") this.models.find((each) => each.model === model).state = "loading";
        this.changed();
      });
      node.disabled = disabled;
      node.dataset.key = `${what} ${model}`;
      node.setAttribute("aria-label", `${label} ${model}`);
      return node;
    };
    const isThere = state === "loaded" || state === "loading";
    return make(
      "div",
      { className: "piano-actions" },
      add("Load", "load_model", isThere),
      add("Unload", "unload_model", state !== "loaded"),
    );
  }

  modeChoice() {
    const node = make("div", { className: "piano-modes", role: "radiogroup", "aria-label": "What tools may do" });
    for (const [name, about] of Object.entries(this.modes)) {
      const box = make("input", {
        type: "radio",
        name: `mode-${this.panel.link.page}`,
        value: name,
        checked: name === (this.wantsFull ? "full" : this.mode),
      });
      box.setAttribute("aria-label", name);
      box.dataset.key = `mode ${name}`;
      box.onchange = () => this.setMode(name);
      const text = make(
        "span",
        { className: "piano-agent-text" },
        make("strong", { textContent: name }),
        make("span", { textContent: about }),
      );
      node.append(make("label", { className: "piano-agent" }, box, text));
      if (name === "full" && this.wantsFull) node.append(this.fullQuestion());
    }
    node.append(
      make("p", {
        className: "piano-sheet-note",
        textContent: "It holds for this kernel; c.PianoConfig.mode in ipython_config.py keeps it.",
      }),
    );
    return node;
  }

  fullQuestion() {
    const back = button("Leave it", () => this.setMode(this.mode));
    const sure = button("Allow everything", () => this.setMode("full", true), "piano-stop");
    return make(
      "div",
      { className: "piano-ask", role: "alert" },
      FULL,
      make("div", { className: "piano-actions" }, back, sure),
    );
  }

  // what is asked may be below the end of what is seen
  showQuestion() {
    this.show();
    this.sheet.body.querySelector(".piano-ask")?.scrollIntoView({ block: "nearest" });
  }

  setMode(mode, sure = false) {
    this.wantsFull = mode === "full" && this.mode !== "full" && !sure;
    if (this.wantsFull || mode === this.mode) this.showQuestion();
    else this.sheet.act("set_mode", { about: mode, sure });
  }
}

export function dot(state) {
  const node = make("span", { className: "piano-dot" });
  node.dataset.state = state;
  return node;
}

export function modelLine({ models, loading }) {
  const [first, ...others] = models;
  if (!first) return "model";
  const name = others.length ? `${models.length} models` : first.answering_model;
  return loading && first.state !== "loaded"
    ? `${name}: ${loading.note}`
    : `${name}: ${STATE_NAMES[first.state] ?? first.state}`;
}

function loadingNodes({ note, fraction, seconds }) {
  const time = seconds ? ` (${Math.round(seconds)} s)` : "";
  const nodes = [make("div", { className: "piano-meta", textContent: `${note}${time}` })];
  if (fraction !== null && fraction !== undefined)
    nodes.push(make("progress", { value: fraction, max: 1, "aria-label": note }));
  return nodes;
}
