// The settings of this kernel: the server, the model and the sandbox, each with a test.
import { button, make } from "./elements.js";
import { Sheet, note } from "./sheet.js";

const TEST_MODEL = "It lists the models of the server, and asks the model for one word. That loads the model.";
const TEST_SANDBOX = "It runs the command true in the sandbox of bash.";

export class SettingsPage {
  constructor(panel) {
    this.panel = panel;
    this.results = new Map(); // what the tests have found
    this.sheet = new Sheet(panel, "Settings", () => this.load(), ["settings"]);
  }

  open(opener) {
    this.results.clear();
    this.sheet.open(opener);
  }

  load() {
    this.sheet.load("settings", {}, (reply) => this.show(reply));
  }

  show({ settings, server, models, agent, model, layers, keep }) {
    this.reply = { settings, server, models, agent, model, layers, keep };
    const served = models.length ? `It has ${listed(models)}.` : "";
    this.sheet.replace(
      make("h3", { textContent: "Server and model" }),
      note(`${agent} answers with ${model}, on ${server}. ${served}`),
      ...this.test("check_model", "Test the model", TEST_MODEL),
      make("h3", { textContent: "Sandbox" }),
      ...layers.map(note),
      ...this.test("check_sandbox", "Test the sandbox", TEST_SANDBOX),
      make("h3", { textContent: "Settings of this kernel" }),
      ...settings.map((each) => this.setting(each)),
      note("They hold until the kernel ends. These lines in ipython_config.py keep them:"),
      (this.kept = make("pre", { textContent: keep, tabIndex: 0 })),
    );
  }

  // the other fields stay as they are: one of them may be written in
  showKept() {
    this.sheet.load("settings", {}, ({ keep }) => (this.kept.textContent = keep));
  }

  test(what, label, about) {
    const result = make("div", { className: "piano-result", role: "status" });
    const told = this.results.get(what);
    if (told) result.textContent = told;
    const start = button(label, () => {
      this.tell(what, "testing…");
      const done = ({ error, reply }) => this.tell(what, error || reply);
      this.panel.link.request(what, {}, done);
    });
    start.dataset.key = what;
    start.title = about;
    result.dataset.result = what;
    return [
      make("div", { className: "piano-test" }, start, make("span", { className: "piano-meta", textContent: about })),
      result,
    ];
  }

  tell(what, text) {
    this.results.set(what, text);
    const shown = this.sheet.body.querySelector(`[data-result="${what}"]`);
    if (shown) shown.textContent = text;
  }

  setting({ name, value, about, choices, isNumber }) {
    const input = choices.length
      ? make(
          "select",
          {},
          ...choices.map((each) => make("option", { value: each, textContent: each, selected: each === value })),
        )
      : make("input", { type: isNumber ? "number" : "text", value, spellcheck: false });
    input.setAttribute("aria-label", name);
    input.dataset.key = `set ${name}`;
    let kept = value;
    const save = () => {
      if (input.value === kept) return;
      kept = input.value;
      this.sheet.act("set_setting", { about: name, value: input.value }, () => this.showKept());
    };
    input.onchange = save;
    input.onkeydown = (event) => {
      if (event.key === "Enter" && !event.isComposing) save();
    };
    return make(
      "label",
      { className: "piano-field" },
      make("code", { textContent: name }),
      input,
      make("span", { className: "piano-meta", textContent: about }),
    );
  }
}

function listed(names) {
  return names.length > 8 ? `${names.slice(0, 8).join(", ")} and ${names.length - 8} more` : names.join(", ");
}
