"""What the states of the chat have in common that `screenshots.py` takes pictures of.

A state is a function of a `Scene` that opens a notebook, does what is needed and returns the notebook. Its decorator
says what is pictured in small sizes: the panel, or the page.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from browser.lab import Lab, Notebook
from playwright.sync_api import Page

from piano_jupyter.testing import ScriptedServer

MODELS = {"qwen3:32b": "for hard questions", "qwen3:8b": "quick", "gemma3:12b": "sees images"}
#: at other paths: what llama-swap says, with two of the three loaded
SERVES = {
    "/v1/models": {
        "data": [{"id": name, "description": about, "context_length": 32_768} for name, about in MODELS.items()]
    },
    "/running": {"running": [{"model": name, "state": "ready"} for name in list(MODELS)[:2]]},
}
LOAD = """%load_ext piano_jupyter
%piano agent Assistant --tools variables,inspect,query,add_cell --description "Answers when nobody else is asked."
%piano agent ada --model qwen3:8b --tools query,variables --description "A careful analyst: looks at the data first."
%piano agent bob --model gemma3:12b --tools read_file --description "Writes and explains SQL.\""""
DATA = """import pandas as pd

orders = pd.DataFrame(
    {
        "day": pd.date_range("2026-05-01", periods=240, freq="h"),
        "country": ["FR", "fr", "DE", "IT"] * 60,
        "amount": [120.0, 80.5, -15.0, 240.0] * 60,
    }
)
rate = 0.19"""
TALKS = [
    ("Churn by region", "Which region loses most customers?", "The **north**: 4.1 % a month."),
    ("Names of the columns", "What do the columns mean?", "`amount` is in euros, with tax."),
    ("A much longer title, of a thread about the quarterly report of 2026", "Summarize it.", "It went well."),
]
THREADS = f"""import json
for title, question, answer in {TALKS!r}:
    turn = [dict(role="user", content=question), dict(role="assistant", content=answer)]
    await piano.import_thread(json.dumps(dict(messages=turn)), title)
%piano thread --new Orders in May"""
QUESTION = "What looks odd in {{orders}}?"
FINDING = """Two things look odd:

1. The **country codes** are written in two ways: `FR` and `fr`.
2. 60 of 240 amounts are **negative**.

| country | orders | amount |
| --- | ---: | ---: |
| DE | 60 | -900.00 |
| FR | 60 | 7,200.00 |
| fr | 60 | 4,830.00 |
| IT | 60 | 14,400.00 |
"""
CODE = """This puts both right:

```python
orders["country"] = orders["country"].str.upper()
refunds = orders[orders["amount"] < 0]
```

Negative amounts may be *refunds*: ask before you delete them."""


@dataclass
class Scene:
    """Where a state is brought about: a page of a front end, with a scripted model behind its kernels."""

    page: Page
    lab: Lab
    model: ScriptedServer
    kind: type[Notebook] = Notebook
    opened: list[Notebook] = field(default_factory=list)

    def open(self, *cells: str, run: bool = True) -> Notebook:
        """Open a notebook with these cells in a new folder, and run them."""
        path = f"orders-{len(list(self.lab.notebooks.iterdir()))}/orders.ipynb"
        self.lab.write(path, cells)
        nb = self.kind(self.page, self.lab, path)
        nb.open()
        self.opened.append(nb)
        for index in range(len(cells) if run else 0):
            nb.run(index)
        return nb

    def panel(self, *cells: str) -> Notebook:
        """Open a notebook with data, threads and a panel, which is on a new thread."""
        return self.open(DATA, f"{LOAD}\n{THREADS}", *cells, "%piano panel")

    def close(self) -> None:
        """Release the model, close what was opened and end its kernels."""
        self.model.reset()
        for nb in self.opened:
            nb.close()
        self.opened.clear()
        self.lab.end_kernels()


State = Callable[[Scene], Notebook]
STATES: dict[str, tuple[State, str]] = {}


def state(of: str) -> Callable[[State], State]:
    """Add a state; `of` says what is pictured in small sizes: "panel" or "page"."""

    def add(function: State) -> State:
        STATES[function.__name__] = (function, of)
        return function

    return add
