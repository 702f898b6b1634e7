// Times: of the day, and how long something has taken so far, by the clock of the kernel.
import { make } from "./elements.js";

export class Elapsed {
  constructor(panel) {
    this.panel = panel;
    this.skew = 0; // seconds by which the clock of this page is ahead of the kernel's
    this.timer = null;
  }

  setNow(now) {
    if (now) this.skew = Date.now() / 1000 - now;
  }

  // an element that counts the seconds since a time, as (0:03)
  node(begun) {
    const node = make("span", { className: "piano-elapsed", "aria-hidden": "true" });
    node.dataset.begun = begun;
    this.show(node);
    this.timer ??= setInterval(() => this.tick(), 1000);
    return node;
  }

  tick() {
    const nodes = this.panel.root.querySelectorAll(".piano-elapsed");
    for (const node of nodes) this.show(node);
    if (!nodes.length) this.close();
  }

  show(node) {
    const seconds = Math.max(0, Math.floor(Date.now() / 1000 - this.skew - Number(node.dataset.begun)));
    node.textContent = `(${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")})`;
  }

  close() {
    clearInterval(this.timer);
    this.timer = null;
  }
}

// 14:03 of today, else with the date
export function timeOfDay(seconds) {
  const time = new Date(seconds * 1000);
  return isToday(time) ? clock(time) : `${day(time)}, ${clock(time)}`;
}

// 14:03 of today, else the date only
export function timeOrDay(written) {
  const time = new Date(written);
  return isToday(time) ? clock(time) : day(time);
}

function isToday(time) {
  return time.toDateString() === new Date().toDateString();
}

function clock(time) {
  return time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

// with the year if it is another one
function day(time) {
  const year = time.getFullYear() === new Date().getFullYear() ? {} : { year: "numeric" };
  return time.toLocaleDateString([], { day: "numeric", month: "short", ...year });
}

export function duration(seconds) {
  if (seconds < 1) return "less than 1 s";
  return seconds < 60 ? `${Math.round(seconds)} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}
