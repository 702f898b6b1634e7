// Requests of the page to the kernel, each acknowledged by "received" and answered by "done".

const REPLY_TIMEOUT_MS = 4000; // without an acknowledgement: then the kernel does not answer

export class KernelLink {
  // onSilence() is called when the kernel does not answer, onReply() when it does
  constructor(model, { onSilence, onReply }) {
    this.model = model;
    this.page = Math.random().toString(36).slice(2);
    this.actions = 0;
    this.pending = new Map(); // requests that are not done: their timer and callback
    this.onSilence = onSilence;
    this.onReply = onReply;
  }

  // ask the kernel to do something; onDone({ error, reply }) is called once it has. A request that is repeated has the
  // number of the first one, and the kernel does it once
  request(what, content = {}, onDone = () => {}, action = ++this.actions) {
    clearTimeout(this.pending.get(action)?.timer);
    const request = { onDone, isOverdue: false };
    request.timer = setTimeout(() => {
      request.isOverdue = true;
      this.onSilence();
    }, REPLY_TIMEOUT_MS);
    this.pending.set(action, request);
    this.send(what, action, content);
    return action;
  }

  // whether a request may have been lost: then it can be repeated
  isOverdue(action) {
    return Boolean(this.pending.get(action)?.isOverdue);
  }

  // ask for what nobody waits for: that the kernel does not answer is not reported
  tell(what, content = {}, onDone = () => {}) {
    const action = ++this.actions;
    this.pending.set(action, { onDone });
    this.send(what, action, content);
  }

  // the same as a promise of the reply, which fails with the kernel's sentence
  ask(what, content = {}) {
    return new Promise((resolve, reject) => {
      this.request(what, content, ({ error, reply }) => (error ? reject(new Error(error)) : resolve(reply)));
    });
  }

  send(what, action, content) {
    try {
      this.model.send({ ...content, do: what, page: this.page, action });
    } catch {
      // the kernel is gone: the timer will report it
    }
  }

  // take in "received" or "done"; return whether the request is done
  take({ kind, action, error, reply }) {
    const known = this.pending.get(action);
    clearTimeout(known?.timer);
    this.onReply();
    if (kind !== "done") return false;
    this.pending.delete(action);
    known?.onDone({ error, reply });
    return true;
  }

  close() {
    for (const { timer } of this.pending.values()) clearTimeout(timer);
    this.send("bye", ++this.actions, {});
  }
}
