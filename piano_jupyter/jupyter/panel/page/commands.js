// What can be done by writing / at the start of a message.

const EXPLAIN = "Explain in a few sentences what went wrong here, and what to change: {{error}}";
const FIX =
  "Say in one or two sentences what was wrong here. Then write the whole corrected cell in one block: {{error}}";

// each with its name, what it does, and `run`
export function commands(panel) {
  const ask = (text) => () => {
    panel.compose.write(text);
    panel.compose.submit();
  };
  const press = (name) => () => {
    const buttons = [...panel.log.node.querySelectorAll("button")].filter(({ textContent }) => textContent === name);
    if (buttons.length) buttons.at(-1).click();
    else panel.showNotice(`there is nothing to ${name.toLowerCase()}`);
  };
  return [
    { name: "attach", about: "Send an image or a text file along", run: () => panel.compose.files.picker.click() },
    { name: "explain", about: "Explain the last error", run: ask(EXPLAIN) },
    { name: "fix", about: "Correct the cell that failed last", run: ask(FIX) },
    { name: "new", about: "Start a new thread", run: () => panel.act("open_thread", {}, () => panel.compose.focus()) },
    { name: "threads", about: "Find, open, export or delete threads", run: () => panel.header.list.click() },
    { name: "rename", about: "Rename this thread", run: () => panel.header.rename() },
    { name: "retry", about: "Run again what failed or was stopped", run: press("Retry") },
    { name: "again", about: "Ask the last question again", run: press("Ask again") },
    { name: "stop", about: "Stop what is being answered", run: () => panel.act("stop") },
  ].map((each) => ({ kind: "command", ...each }));
}
