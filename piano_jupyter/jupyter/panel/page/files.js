// Images and text files that go with the next question: pasted, dropped, chosen. They are sent to the kernel in parts.
import { make } from "./elements.js";

const MAX_FILES = 10; // of one question
const MAX_BYTES = 20 * 2 ** 20;
const PART_BYTES = 384 * 1024; // in base64 half a megabyte: a websocket takes no messages of any size

export class Files {
  // onChange() is called when the list or what is known of a file has changed
  constructor(panel, onChange) {
    Object.assign(this, { panel, onChange });
    this.list = []; // { key, name, label, thumbnail, state, refused }
    this.picker = make("input", { type: "file", multiple: true, hidden: true, "aria-label": "Files to attach" });
    this.picker.onchange = () => {
      this.add(this.picker.files);
      this.picker.value = "";
    };
  }

  get arriving() {
    return this.list.filter(({ state }) => state === "arriving");
  }

  // those that the kernel has
  get here() {
    return this.list.filter(({ state }) => state === "here");
  }

  // list files that the kernel has kept
  restore(kept) {
    const known = new Set(this.list.map(({ key }) => key));
    for (const each of kept.filter(({ key }) => !known.has(key)))
      this.list.push({ ...each, name: each.label, state: "here" });
    this.onChange();
  }

  listen(node) {
    node.addEventListener("paste", (event) => {
      const { files } = event.clipboardData;
      if (!files.length || event.clipboardData.getData("text/plain")) return; // a table is pasted as text
      event.preventDefault();
      this.add(files);
    });
    const isOfFiles = (event) => event.dataTransfer?.types.includes("Files");
    const mark = (event, on) => {
      if (!isOfFiles(event)) return;
      event.preventDefault();
      event.stopPropagation();
      node.classList.toggle("piano-drop", on);
    };
    node.addEventListener("dragover", (event) => mark(event, true));
    node.addEventListener("dragleave", (event) => mark(event, node.contains(event.relatedTarget)));
    node.addEventListener("drop", (event) => {
      if (!isOfFiles(event)) return;
      mark(event, false);
      this.add(event.dataTransfer.files);
    });
  }

  add(files) {
    for (const file of files) {
      const problem = this.problemOf(file);
      if (problem) this.panel.showNotice(problem);
      else this.send(file);
    }
  }

  problemOf({ name, size }) {
    if (this.list.length >= MAX_FILES) return `${name} was left out: at most ${MAX_FILES} files go with one question`;
    if (size > MAX_BYTES) return `${name} is too large: at most ${MAX_BYTES / 2 ** 20} MB are taken`;
    return size ? "" : `${name} is empty`;
  }

  async send(file) {
    const thumbnail = file.type.startsWith("image/") ? URL.createObjectURL(file) : "";
    const entry = this.listed({ name: file.name || "file", thumbnail });
    await this.settle(entry, async () => {
      for (let number = 0; ; number++) {
        const [from, to] = [number * PART_BYTES, (number + 1) * PART_BYTES];
        const part = await base64(file.slice(from, to));
        const last = to >= file.size;
        if (!this.list.includes(entry)) return null; // it was removed
        const content = {
          about: entry.key,
          name: entry.name,
          part,
          number,
          last,
          question: this.panel.compose.box.value,
        };
        const reply = await this.panel.link.ask("attach_part", content);
        if (last) return reply;
      }
    });
  }

  // attach a file of the workspace
  async attach(path) {
    if (this.list.length >= MAX_FILES) return this.panel.showNotice(this.problemOf({ name: path, size: 1 }));
    const entry = this.listed({ name: path, thumbnail: "" });
    const content = { about: entry.key, path, question: this.panel.compose.box.value };
    await this.settle(entry, () => this.panel.link.ask("attach_file", content));
  }

  listed({ name, thumbnail }) {
    const key = Math.random().toString(36).slice(2) + Date.now().toString(36);
    const entry = { key, name, label: name, thumbnail, state: "arriving", refused: "" };
    this.list.push(entry);
    this.onChange();
    return entry;
  }

  async settle(entry, work) {
    try {
      const reply = await work();
      if (!reply) return;
      entry.state = "here";
      entry.label = reply.label;
      entry.refused = reply.refused;
      entry.thumbnail ||= reply.thumbnail;
      if (reply.refused) this.panel.showNotice(reply.refused);
    } catch (error) {
      this.drop([entry.key]);
      this.panel.showNotice(error.message);
    }
    this.onChange();
  }

  remove(key) {
    this.drop([key]);
    this.panel.link.tell("detach", { about: key });
  }

  clear() {
    this.drop(this.list.map(({ key }) => key));
  }

  // take files off the list that were sent or removed
  drop(keys) {
    for (const { thumbnail } of this.list.filter(({ key }) => keys.includes(key)))
      if (thumbnail.startsWith("blob:")) URL.revokeObjectURL(thumbnail);
    this.list = this.list.filter(({ key }) => !keys.includes(key));
    this.onChange();
  }
}

function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Error("the file cannot be read"));
    reader.readAsDataURL(blob);
  });
}
