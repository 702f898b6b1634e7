// The card of a tool call: what was called with what, its result, and the question whether it may run.
import { duration } from "./elapsed.js";
import { button, make } from "./elements.js";

const RULE_IS_ADDED =
  "Always adds a rule to PianoConfig.rules of the kernel that runs it (add it to ipython_config.py to keep it): ";

// return the card, and below it what the call shows, which is seen while the card is folded, too
export function callNodes(panel, change) {
  const { question, flag, reason } = change;
  const head = callHead(panel, change);
  head.dataset.key = change.part;
  const node = make("details", { className: "piano-call", open: Boolean(question) }, head);
  node.dataset.state = change.state;
  if (question) head.replaceChildren(make("span", { className: "piano-question", textContent: question }));
  if (flag) head.append(make("span", { className: "piano-flag", innerHTML: flag }));
  if (reason) node.append(make("div", { className: "piano-why", innerHTML: reason }));
  node.append(valueList(change));
  if (question) node.append(...approval(panel, change));
  return [node, make("div", { className: "piano-shown" }, ...panel.attachments.nodes(change.attachments))];
}

function callHead(panel, { name, preview, state, begun, took }) {
  const time =
    took !== null && took >= 1 ? [make("span", { className: "piano-took", textContent: duration(took) })] : [];
  if (state === "running" && begun) time.push(panel.log.elapsed.node(begun));
  return make(
    "summary",
    {},
    make("code", { innerHTML: name }),
    make("span", { className: "piano-preview", innerHTML: preview }),
    ...time,
    make("span", { className: "piano-state", textContent: state === "asks" ? "" : state }),
  );
}

function valueList({ arguments: values, result }) {
  const list = make("dl");
  const add = (title, value) =>
    list.append(make("dt", { innerHTML: title }), make("dd", {}, make("pre", { innerHTML: value, tabIndex: 0 })));
  for (const [title, value] of values) add(title, value);
  if (result !== null) add("result", result);
  return list;
}

function approval(panel, { question, always, request }) {
  const about = { className: "piano-row", role: "group", "aria-label": question };
  const row = make("div", about, actionButton(panel, "Deny", "deny", request));
  const nodes = [row];
  if (always) {
    const covers = make("div", { className: "piano-why piano-covers" }, RULE_IS_ADDED);
    covers.append(make("code", { innerHTML: always, tabIndex: 0 }));
    nodes.unshift(covers);
    row.append(actionButton(panel, "Always", "always", request));
  }
  row.append(actionButton(panel, "Approve", "approve", request, "piano-send"));
  return nodes;
}

// a button that starts an action of the kernel; it and its neighbours are disabled unless the action fails
export function actionButton(panel, label, what, key, className = "") {
  const click = (event) => {
    if (event.detail > 1) return; // the rest of a double click, meant for what was in this place before
    const row = [...event.currentTarget.parentElement.querySelectorAll("button")];
    const setDisabled = (disabled) => row.forEach((each) => (each.disabled = disabled));
    panel.compose.focus(); // a disabled or removed button would lose the focus
    setDisabled(true);
    panel.act(what, { about: key }, (error) => error && setDisabled(false));
  };
  return button(label, click, className);
}
