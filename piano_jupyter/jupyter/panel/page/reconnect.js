// What stands above the box once the kernel of the panel is gone: that it is, and a button that brings the panel back.
import { button, make } from "./elements.js";

const RESTARTED = "The kernel was restarted";
const ENDED = "The kernel has ended";
const GONE = { restarting: RESTARTED, autorestarting: RESTARTED, dead: ENDED, terminating: ENDED }; // by its status
const KEPT = "so this panel is no longer connected. The conversation and your text are kept.";
const LOAD = 'get_ipython().extension_manager.load_extension("piano_jupyter")'; // says nothing if it is loaded
const BY_HAND = "Run %load_ext piano_jupyter and %piano panel to go on.";

export class Reconnect {
  constructor(panel) {
    this.panel = panel;
    this.gone = false;
    this.text = make("span");
    this.button = button("Reconnect", () => this.reconnect(), "piano-send");
    this.node = make("div", { className: "piano-gone", role: "alert", hidden: true }, this.text, this.button);
    this.kernel = panel.model.widget_manager?.kernel; // none in some front ends
    this.session = panel.notebook.context?.sessionContext;
    this.onStatus = (_, status) => status in GONE && this.show(GONE[status]);
    this.onKernel = (_, { newValue }) => newValue?.id !== this.kernel?.id && this.show(ENDED);
    this.onConnection = (_, status) => status === "connected" && !this.gone && panel.act("hello");
    this.kernel?.statusChanged?.connect(this.onStatus);
    this.kernel?.connectionStatusChanged?.connect(this.onConnection);
    this.session?.kernelChanged?.connect(this.onKernel);
  }

  show(reason) {
    if (this.gone) return;
    this.gone = true;
    const can = this.panel.notebook.canRunInPlace();
    this.text.textContent = `${reason}, ${KEPT}${can ? "" : ` ${BY_HAND}`}`;
    this.button.hidden = !can;
    this.panel.showNotice("");
    this.node.hidden = false;
    this.panel.root.classList.add("piano-is-gone");
  }

  reconnect() {
    this.panel.compose.drafts.save();
    this.button.disabled = true;
    this.button.textContent = "Connecting…";
    const code = `${LOAD}\n%piano panel ${this.panel.compose.drafts.thread ?? ""}`;
    this.panel.notebook.runInPlace(code, (problem) => {
      this.button.disabled = false;
      this.button.textContent = "Reconnect";
      if (problem) this.panel.showNotice(problem);
    });
  }

  close() {
    this.kernel?.statusChanged?.disconnect(this.onStatus);
    this.kernel?.connectionStatusChanged?.disconnect(this.onConnection);
    this.session?.kernelChanged?.disconnect(this.onKernel);
  }
}
