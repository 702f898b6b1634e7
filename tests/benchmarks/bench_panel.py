"""The chat panel beside a panel composed of ipywidgets, in one run of JupyterLab and Chromium.

How long it takes to open so many messages. Then, for each number of messages shown and each rate: how long an answer
takes beside the ideal, the kernel's CPU time for a token, bytes on the websocket, the time from a token's arrival in
the kernel until it is painted, and dropped frames.

python tests/benchmarks/bench_panel.py [tokens]
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from browser.conftest import BROWSERS, FLAGS
from browser.lab import LONG, Lab, Notebook
from playwright.sync_api import sync_playwright
from server import streaming_server

TOKENS = 400
SHOWN = (0, 500, 2000)  # messages
RATES = (50, 200, 1000)  # tokens a second
FRAME_MS = 1000 / 60

ANSWER = "It **depends** on the data:\\n\\n- one thing\\n- another\\n\\n```python\\nx = {i}\\n```\\nThat is all."
BEGIN = f"""
import json, time
%load_ext piano_jupyter
%config PianoConfig.database = ":memory:"
%config PianoConfig.stop_loops = False
from piano_jupyter.events import MessageDelta

async def thread_with(count):
    "Open a thread with so many messages."
    %config PianoConfig.panel_messages = 4000
    answer = lambda i: f"{ANSWER}"
    turns = [(("user", f"Question {{i}}"), ("assistant", answer(i))) for i in range(count // 2)]
    lines = json.dumps(dict(messages=[dict(role=role, content=text) for turn in turns for role, text in turn]))
    return await piano.import_thread(lines, f"{{count}} messages") if count else await piano.open_thread("Empty")

session = get_ipython().magics_manager.magics["line"]["piano"].__self__
bus = session.loop.run(session.opened()).bus
arrived = []  # the time, in milliseconds since 1970, at which the kernel had each token
bus.subscribe(lambda event: arrived.append(time.time() * 1000), MessageDelta)

async def ask(question):
    "Ask, and return the CPU time, in seconds, of the kernel."
    arrived.clear()
    begun = time.process_time()
    await piano.ask(question)
    return time.process_time() - begun
"""
#: the panel that one would compose: a widget a message, the one that is being written gets the whole text each time
COMPOSED = """
import ipywidgets
from piano_jupyter.jupyter.render.markdown_html import render
await thread_with({shown})
entries = [ipywidgets.HTML(render(each.content)) for each in await piano.messages(piano.thread)]
written, text = ipywidgets.HTML(), []
def write(event):
    text.append(event.text)
    written.value = render("".join(text))
undo = bus.subscribe(write, MessageDelta)
ipywidgets.VBox([*entries, written]).add_class("composed")
"""
#: look, at each frame, which tokens are painted: each is its number, so the last one says how many there are
WATCH = """tokens => {
    window.painted = []; window.frames_ms = [];
    let before = performance.now();
    const look = now => {
        window.frames_ms.push(now - before);
        before = now;
        const texts = document.querySelectorAll('.piano-panel .piano-text, .composed > :last-child');
        const last = texts[texts.length - 1];
        const places = last?.querySelectorAll('.piano-done') ?? [];
        const text = places.length ? [...places].map(each => each.textContent).join('') : last?.textContent ?? '';
        const found = text.trimEnd().match(/(\\d{4})$/);
        while (found && painted.length <= Number(found[1])) painted.push(Date.now());
        if (painted.length < tokens) requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
}"""
FIRST_PAINT = """begun => new Promise(resolve => {
    const look = () => {
        if (document.querySelector('.piano-panel .piano-entry')) resolve(Date.now() - begun);
        else requestAnimationFrame(look);
    };
    look();
})"""


def percentile(values, part):
    """Return the value that so large a part stays below."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


class Bench:
    """A window of JupyterLab, the bytes that its websockets got, and notebooks, one after another."""

    def __init__(self, lab, page, tokens):
        self.lab, self.page, self.tokens = lab, page, tokens
        self.bytes, self.opened = 0, 0
        page.on("websocket", lambda socket: socket.on("framereceived", self._count))

    def _count(self, payload):
        self.bytes += len(payload)

    def notebook(self, *cells):
        self.opened += 1
        path = f"n{self.opened}/n.ipynb"
        self.lab.write(path, [BEGIN, *cells])
        notebook = Notebook(self.page, self.lab, path)
        notebook.open()
        notebook.run(0)
        return notebook

    def measure(self, what, cell, shown, rate):
        """Print what an answer at this rate costs while so many messages are shown."""
        ask = f"spent = await ask('{self.tokens} {rate}')\nprint(json.dumps([spent, arrived]))"
        notebook = self.notebook(cell, ask)
        notebook.run(1)
        self.all_are_shown(shown)
        before = self.bytes
        self.page.evaluate(WATCH, self.tokens)
        notebook.run(2)
        self.page.wait_for_function("tokens => painted.length >= tokens", arg=self.tokens, timeout=LONG)
        painted, frames = self.page.evaluate("[painted, frames_ms]")
        spent, arrived = json.loads(notebook.text(2).strip().splitlines()[-1])
        late = [seen - had for seen, had in zip(painted, arrived, strict=False)]
        took, ideal = (painted[-1] - arrived[0]) / 1000, self.tokens / rate
        dropped = sum(max(0, round(each / FRAME_MS) - 1) for each in frames)
        print(
            f"{what:9} {shown:5} shown {rate:5}/s: {took:6.2f} s ({ideal:.2f} ideal), "
            f"CPU {spent / self.tokens * 1e6:5.0f} µs a token, {(self.bytes - before) / 1024:6.0f} kB, "
            f"painted after p50 {percentile(late, 0.5):4.0f} p95 {percentile(late, 0.95):5.0f} ms, "
            f"{dropped:3} frames dropped, p95 frame {percentile(frames, 0.95):3.0f} ms",
            flush=True,
        )
        self.end(notebook)
        return took

    def opening(self, shown):
        """Print how long it takes to open so many messages."""
        notebook = self.notebook(f"await thread_with({shown});", "%piano panel")
        notebook.run(1)
        begun = self.page.evaluate("Date.now()")
        notebook.run(2, wait=False)
        first = self.page.evaluate(FIRST_PAINT, begun)
        self.all_are_shown(shown)
        whole = self.page.evaluate("begun => Date.now() - begun", begun)
        print(
            f"opening   {shown:5} messages: the first painted after {first:.0f} ms, all after {whole:.0f} ms",
            flush=True,
        )
        self.end(notebook)
        return first

    def all_are_shown(self, count):
        """Wait until so many messages are shown, and laid out."""
        shown = "document.querySelectorAll('.piano-panel .piano-entry, .composed > .widget-html').length"
        self.page.wait_for_function(f"() => {shown} >= {count}", timeout=5 * LONG)  # a composed panel takes minutes
        self.page.evaluate("() => new Promise(resolve => requestIdleCallback(resolve))")

    def end(self, notebook):
        notebook.close()
        self.lab.end_kernels()


def main():
    """Print all of it."""
    tokens = int(sys.argv[1]) if len(sys.argv) > 1 else TOKENS
    chromium = next(filter(None, map(shutil.which, BROWSERS)))
    with streaming_server() as address, tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = str(Path(__file__).parents[2])
        lab = Lab(Path(folder), {"PYTHONPATH": path, "PIANO_BASE_URL": address})
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        try:
            page = browser.new_page(viewport={"width": 1200, "height": 950})
            page.goto(lab.address(), wait_until="domcontentloaded")
            page.wait_for_function("() => window.jupyterapp", timeout=LONG)
            page.evaluate("() => jupyterapp.restored")
            bench = Bench(lab, page, tokens)
            firsts = {shown: bench.opening(shown) for shown in (50, 500, 2000)}
            print(f"2,000 messages paint first after {firsts[2000] / firsts[50]:.2f} times the time of 50 (at most 2)")
            times = {
                (shown, rate): bench.measure("panel", f"await thread_with({shown});\n%piano panel", shown, rate)
                for shown in SHOWN
                for rate in RATES
            }
            for shown in SHOWN[1:]:
                print(
                    f"{shown} shown, 200/s: {times[shown, 200] / times[0, 200]:.2f} times an empty thread (at most 1.3)"
                )
            for shown in SHOWN[:2]:
                for rate in RATES:
                    bench.measure("composed", COMPOSED.format(shown=shown), shown, rate)
        finally:
            browser.close()
            lab.end_kernels()
            lab.stop()


if __name__ == "__main__":
    main()
