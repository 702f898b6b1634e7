// A panel without messages: who answers, on what, and three things to try.
import { button, make } from "./elements.js";
import { modelLine } from "./model_sheet.js";

export class Empty {
  constructor(panel) {
    this.panel = panel;
    this.answering = [];
    this.known = { models: [] };
    this.who = make("span", { className: "piano-empty-who" });
    this.settings = button("Settings", () => panel.header.settings.open(this.settings), "piano-quiet");
    this.questions = make("span", { className: "piano-questions", role: "group", "aria-label": "Questions to try" });
    const hint = make("span", {
      className: "piano-meta",
      textContent: "Enter asks. @ mentions an agent, {{name}} inserts a variable.",
    });
    this.panel.log.empty.replaceChildren(this.who, this.settings, this.questions, hint);
  }

  load() {
    this.panel.link.request("questions", {}, ({ reply }) => reply && this.showQuestions(reply));
  }

  showQuestions(questions) {
    const buttons = questions.map((text) => button(text, () => this.write(text), "piano-try"));
    this.panel.press.after(() => this.questions.replaceChildren(...buttons));
  }

  showWho(answering) {
    this.answering = answering;
    this.show();
  }

  showModel(known) {
    this.known = known;
    this.show();
  }

  show() {
    const names = this.answering.map((name) => make("strong", { textContent: name }));
    const joined = names.flatMap((each, at) => (at ? [at === names.length - 1 ? " and " : ", ", each] : [each]));
    const [first] = this.known.models;
    const server = first && first.server && first.server !== "embedded" ? `, on ${first.server}` : "";
    const line = first ? ` with ${modelLine(this.known).replace(": ", " (")})${server}.` : ".";
    this.who.replaceChildren(...joined, names.length > 1 ? " answer" : " answers", line);
    if (first?.state === "no server") this.who.append(" Start it, or choose another one in the settings.");
  }

  // put a question into the box, where it can be changed before it is sent
  write(text) {
    const { box } = this.panel.compose;
    box.value = text;
    box.dispatchEvent(new Event("input", { bubbles: true }));
    box.focus();
  }
}
