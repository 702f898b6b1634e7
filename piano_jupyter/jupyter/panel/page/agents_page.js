// The agents: a list, and a form to create, change, duplicate and delete one.
import { button, make } from "./elements.js";
import { Sheet, note } from "./sheet.js";
import { keep, kept } from "./tab_storage.js";

const EFFECT = "Changes count from the next turn. What an agent has written keeps its author.";
const UNSAVED = "What you have written in this form is not saved yet.";
const VERDICTS = { allow: "runs", ask: "asks for your approval", deny: "is denied" };

export class AgentsPage {
  constructor(panel) {
    this.panel = panel;
    this.sheet = new Sheet(panel, "Agents", () => this.load(), ["agents"]);
    this.edited = null; // the agent in the form: null for none, without an id for a new one
    this.sheet.body.oninput = () => this.keepWritten();
  }

  // a form in which something is written is still there after Escape, a restart of the kernel and a reload of the page
  open(opener) {
    const isWritten = this.isWritten();
    if (!isWritten) {
      this.edited = null;
      this.sheet.body.replaceChildren(); // a form of before would take the focus, and keep its place by that
    }
    this.sheet.open(opener);
    if (isWritten) this.panel.showNotice(UNSAVED);
  }

  isWritten() {
    return this.edited !== null && JSON.stringify(this.read()) !== this.before;
  }

  // an open form stays as it is: news must not take away what was written
  load() {
    if (!this.edited) this.sheet.load("agent_form", {}, (reply) => this.showList(reply));
  }

  // where this tab keeps what is written
  key() {
    return `agent:${this.panel.notebook.where()}`;
  }

  keepWritten() {
    keep(this.key(), this.isWritten() ? JSON.stringify(this.read()) : null);
  }

  restore(written) {
    const agent = this.known.agents.find(({ id }) => id === written.about);
    this.edit(agent ?? this.blank());
    for (const [name, field] of Object.entries(this.fields)) inputOf(field).value = written[name];
    for (const [name, boxes] of Object.entries(this.toggles))
      for (const box of boxes.querySelectorAll("input")) box.checked = written[name].includes(box.value);
    this.keepWritten();
    this.panel.showNotice(UNSAVED);
  }

  showList(reply) {
    this.known = reply;
    const written = kept(this.key());
    if (written) return this.restore(JSON.parse(written));
    const rows = reply.agents.map((agent) => {
      const open = make("button", { type: "button", className: "piano-thread-open" });
      open.append(
        make("strong", { textContent: agent.name }),
        make("span", { className: "piano-meta", textContent: agent.answers }),
      );
      if (agent.description) open.append(make("span", { textContent: agent.description }));
      open.dataset.key = `agent ${agent.id}`;
      open.onclick = () => this.edit(agent);
      return make("div", { className: "piano-thread" }, open);
    });
    const fresh = button("New agent", () => this.edit(this.blank()), "piano-send");
    fresh.dataset.key = "new agent";
    this.sheet.replace(note(EFFECT), ...rows, make("div", { className: "piano-actions" }, fresh));
  }

  blank() {
    const { default_model: model } = this.known;
    return {
      name: "",
      model,
      description: "",
      system_prompt: "",
      enabled_tools: [],
      enabled_skills: [],
      options: {},
      max_iterations: null,
    };
  }

  edit(agent) {
    this.edited = agent;
    this.question = null; // what is asked below the buttons
    this.panel.showNotice("");
    const { models, tools, skills, mode, default_iterations: rounds } = this.known;
    const list = make(
      "datalist",
      { id: `models-${this.panel.link.page}` },
      ...models.map((value) => make("option", { value })),
    );
    const text = (label, value, about = "") =>
      this.field(label, make("input", { type: "text", value, spellcheck: false }), about);
    const name = text("Name", agent.name, "Letters, digits, _ - and . It is mentioned as @name.");
    const model = text("Model", agent.model);
    inputOf(model).setAttribute("list", list.id);
    const about = text("Description", agent.description, "What it is for, for people.");
    const prompt = this.field(
      "System prompt",
      make("textarea", { rows: 5, value: agent.system_prompt }),
      "What the model is told first.",
    );
    const options = Object.keys(agent.options).length ? JSON.stringify(agent.options) : "";
    const sent = text("Options", options, 'Sent with each request, as JSON: {"temperature": 0.2}');
    const most = this.field(
      "Rounds",
      make("input", { type: "number", min: 1, value: agent.max_iterations ?? "", placeholder: rounds }),
      "How often a turn may ask the model.",
    );
    const given = tools.map(([tool, line, verdict]) => [
      tool,
      `${line} In mode ${mode} it ${VERDICTS[verdict] ?? verdict}.`,
    ]);
    const toolBoxes = toggles("Tools", given, agent.enabled_tools, "There are no tools.");
    const skillBoxes = toggles("Skills", skills, agent.enabled_skills, "There are no skills.");
    this.fields = { name, model, description: about, system_prompt: prompt, options: sent, max_iterations: most };
    this.toggles = { enabled_tools: toolBoxes, enabled_skills: skillBoxes };
    this.before = JSON.stringify(this.read());
    this.keepWritten();
    this.buttons = make("div", { className: "piano-agent-buttons" });
    this.showButtons();
    this.sheet.replace(list, name, model, about, prompt, toolBoxes, skillBoxes, sent, most, this.buttons);
    this.sheet.body.scrollTop = 0;
    inputOf(name).focus();
  }

  read() {
    const entries = (what, read) => Object.entries(what).map(([name, node]) => [name, read(node)]);
    return {
      about: this.edited.id ?? "",
      ...Object.fromEntries(entries(this.fields, (node) => inputOf(node).value)),
      ...Object.fromEntries(entries(this.toggles, checked)),
    };
  }

  field(label, input, about) {
    input.setAttribute("aria-label", label);
    const node = make("label", { className: "piano-field" }, make("span", { textContent: label }), input);
    if (about) node.append(make("span", { className: "piano-meta", textContent: about }));
    return node;
  }

  showButtons() {
    const { id, name } = this.edited;
    const row = make("div", { className: "piano-actions" });
    row.append(
      button("Save", () => this.save(), "piano-send"),
      button("Back", () => this.leave(() => this.back())),
    );
    if (id) {
      const copy = { ...this.edited, id: undefined, name: `${name}-copy` };
      row.append(button("Duplicate", () => this.leave(() => this.edit(copy))));
      row.append(button("Delete…", () => this.ask(this.deletion())));
    }
    this.buttons.replaceChildren(row);
    if (!this.question) return;
    const { content, no, yes, act } = this.question;
    const leave = button(no, () => this.ask(null));
    const really = button(yes, act, "piano-stop");
    const text = make("div", { className: "piano-ask", role: "alert" }, ...content);
    text.append(make("div", { className: "piano-actions" }, leave, really));
    this.buttons.append(text);
    text.scrollIntoView({ block: "nearest" });
    leave.focus();
  }

  deletion() {
    const { id, name } = this.edited;
    const about = "? What it has written stays. Its queued questions are cancelled.";
    const act = () => {
      this.sheet.node.focus();
      this.sheet.act("delete_agent", { about: id }, () => this.back());
    };
    const content = ["Delete the agent ", make("bdi", { textContent: `@${name}` }), about];
    return { content, no: "Keep it", yes: "Delete for good", act };
  }

  // go on to something else; what is written is given up only if that is said
  leave(then) {
    if (!this.isWritten()) then();
    else this.ask({ content: [UNSAVED], no: "Keep writing", yes: "Give it up", act: then });
  }

  ask(question) {
    this.question = question;
    this.showButtons();
    if (!question) this.buttons.querySelector("button").focus();
  }

  save() {
    this.sheet.act("save_agent", this.read(), () => this.back());
  }

  back() {
    this.edited = null;
    this.keepWritten();
    this.sheet.node.focus();
    this.load();
  }
}

function toggles(label, known, enabled, none) {
  const names = new Set(known.map(([name]) => name));
  const all = [...known, ...enabled.filter((name) => !names.has(name)).map((name) => [name, "It is not there now."])];
  const node = make("fieldset", { className: "piano-toggles" }, make("legend", { textContent: label }));
  for (const [name, about] of all) {
    const box = make("input", { type: "checkbox", value: name, checked: enabled.includes(name), "aria-label": name });
    const text = make(
      "span",
      { className: "piano-agent-text" },
      make("code", { textContent: name }),
      make("span", { className: "piano-meta", textContent: about }),
    );
    node.append(make("label", { className: "piano-agent" }, box, text));
  }
  if (!all.length) node.append(note(none));
  return node;
}

function checked(node) {
  return [...node.querySelectorAll("input:checked")].map((box) => box.value);
}

function inputOf(field) {
  return field.querySelector("input, textarea");
}
