// The line above the conversation: the list of threads, the title (a click renames it), who answers, on which model.
import { AgentPicker } from "./agent_picker.js";
import { AgentsPage } from "./agents_page.js";
import { make } from "./elements.js";
import { Empty } from "./empty.js";
import { icon } from "./icons.js";
import { ModelSheet, dot, modelLine } from "./model_sheet.js";
import { SettingsPage } from "./settings_page.js";
import { ThreadList } from "./thread_list.js";

export class Header {
  constructor(panel) {
    this.panel = panel;
    this.title = make("button", { type: "button", className: "piano-title", title: "Rename this thread" });
    this.title.onclick = () => this.rename();
    this.threads = new ThreadList(panel);
    this.agentsPage = new AgentsPage(panel);
    this.agents = new AgentPicker(panel, (opener) => this.agentsPage.open(opener));
    this.models = new ModelSheet(panel, (known) => this.showModel(known));
    this.who = this.opener("Who answers", this.agents, make("span", { className: "piano-who-answers" }), icon("down"));
    this.model = this.opener("Model and tools", this.models, dot("unknown"), make("span", { className: "piano-mode" }));
    this.settings = new SettingsPage(panel);
    this.empty = new Empty(panel);
    this.list = this.opener("Threads", this.threads, icon("threads"));
    const fresh = make(
      "button",
      { type: "button", className: "piano-quiet", "aria-label": "New thread", title: "New thread" },
      icon("plus"),
    );
    fresh.onclick = () => this.panel.act("open_thread", {}, () => this.panel.compose.focus());
    const gear = this.opener("Settings", this.settings, icon("settings"));
    gear.classList.add("piano-gear");
    this.node = make("header", { className: "piano-header" }, this.list, this.title, this.who, this.model, fresh, gear);
    this.showTitle();
  }

  // a button that opens and closes a sheet
  opener(label, sheet, ...content) {
    const node = make(
      "button",
      { type: "button", className: "piano-quiet", "aria-label": label, title: label },
      ...content,
    );
    node.setAttribute("aria-haspopup", "dialog");
    node.setAttribute("aria-expanded", "false");
    node.onclick = () => (this.panel.sheet === sheet.sheet ? sheet.sheet.close() : sheet.open(node));
    return node;
  }

  // the page is seen for the first time, or again after the kernel was gone
  load() {
    this.loadAgents();
    this.models.load();
    this.empty.load();
  }

  onNews({ topics, loading }) {
    const has = (topic) => topics.includes(topic);
    if (has("agents")) {
      this.loadAgents();
      this.empty.load();
    }
    if (this.panel.sheet?.topics.some(has) && this.panel.sheet !== this.models.sheet) this.panel.sheet.refresh();
    if (has("settings")) this.models.loadMode();
    if (has("model") || has("settings") || has("agents")) this.models.loadSoon(loading);
  }

  loadAgents() {
    this.panel.link.ask("agents").then(
      (reply) => this.showAgents(reply),
      () => {},
    ); // the notice tells if nobody answers
  }

  showAgents({ answering }) {
    const names = answering.join(", ");
    this.empty.showWho(answering);
    this.who.firstChild.textContent = names;
    this.who.setAttribute("aria-label", `Who answers: ${names}`);
    this.who.title = `Who answers: ${names}`;
  }

  showModel(known) {
    const line = modelLine(known);
    this.empty.showModel(known);
    const [first] = known.models;
    this.model.firstChild.dataset.state =
      known.loading && first?.state !== "loaded" ? "loading" : (first?.state ?? "unknown");
    this.model.lastChild.textContent = known.mode ?? "";
    this.model.title = `${line}. Tools may ${known.mode ?? "…"}`;
    this.model.setAttribute("aria-label", `Model and tools: ${line}; mode ${known.mode ?? "unknown"}`);
  }

  showTitle() {
    const title = this.panel.model.get("title");
    this.title.textContent = title;
    this.panel.root.setAttribute("aria-label", `Chat: ${title}`);
    this.panel.log.node.setAttribute("aria-label", `Conversation: ${title}`);
  }

  rename() {
    const before = this.title.textContent;
    const box = make("input", {
      className: "piano-rename",
      value: before,
      maxLength: 60,
      "aria-label": "Title of this thread",
    });
    let ended = false;
    const end = (keep) => {
      if (ended) return; // Enter and the loss of focus that follows are one end
      ended = true;
      box.replaceWith(this.title);
      if (keep && box.value.trim() && box.value.trim() !== before) this.panel.act("rename", { about: box.value });
    };
    box.onkeydown = (event) => {
      if (event.isComposing || !["Enter", "Escape"].includes(event.key)) return;
      event.preventDefault();
      end(event.key === "Enter");
      this.panel.compose.focus();
    };
    box.onblur = () => end(true);
    this.title.replaceWith(box);
    box.select();
  }

  close() {
    this.models.close();
  }
}
