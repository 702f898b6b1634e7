// Who answers the next question that mentions nobody: one agent, or several together.
import { button, make } from "./elements.js";
import { Sheet } from "./sheet.js";

const MEANING =
  "Who answers when a question begins with no @mention. One agent is kept with the thread; several answer side by side, " +
  "in this panel only, until its kernel restarts. An @mention goes first.";

export class AgentPicker {
  constructor(panel, openAgents) {
    this.panel = panel;
    this.sheet = new Sheet(panel, "Who answers", () => this.load(), ["agents"]);
    this.edit = button("Edit agents…", () => openAgents(this.sheet.opener));
  }

  open(opener) {
    this.sheet.open(opener);
  }

  load() {
    this.sheet.load("agents", {}, (reply) => this.show(reply));
  }

  show({ agents }) {
    const rows = agents.map((agent) => this.row(agent));
    const list = make("div", { className: "piano-agents", role: "group", "aria-label": "Agents that answer" }, ...rows);
    this.sheet.replace(make("p", { className: "piano-sheet-note", textContent: MEANING }), list, this.edit);
  }

  row({ id, name, description, model, tools, skills, picked }) {
    const box = make("input", { type: "checkbox", checked: picked, value: id, "aria-label": name });
    box.dataset.key = `pick ${id}`;
    box.onchange = () => this.pick(box);
    const text = make("span", { className: "piano-agent-text" }, make("strong", { textContent: name }));
    text.append(make("span", { className: "piano-meta", textContent: model }));
    if (description) text.append(make("span", { textContent: description }));
    text.append(
      make("span", { className: "piano-meta", textContent: tools.length ? `tools: ${tools.join(", ")}` : "no tools" }),
    );
    if (skills.length)
      text.append(make("span", { className: "piano-meta", textContent: `skills: ${skills.join(", ")}` }));
    const only = button("Only", () => this.send([id]), "piano-quiet");
    only.setAttribute("aria-label", `Only ${name}`);
    only.dataset.key = `only ${id}`;
    return make("label", { className: "piano-agent" }, box, text, only);
  }

  pick(box) {
    const ids = [...this.sheet.body.querySelectorAll("input:checked")].map((each) => each.value);
    if (ids.length) this.send(ids);
    else box.checked = true; // somebody has to answer
  }

  send(ids) {
    this.sheet.act("pick", { agents: ids });
  }
}
