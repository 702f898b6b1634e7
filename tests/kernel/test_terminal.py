"""python -m piano_jupyter, as a user runs it."""

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hostile import HOSTILE, OBEYED, ORDINARY

from piano_jupyter.testing import ServerReply, tool_call

DEADLINE = 60  # seconds


@pytest.fixture
def terminal(tmp_path, stub_model):
    def run(*words, typed="", **env):
        return subprocess.run(
            [sys.executable, "-m", "piano_jupyter", *words],
            cwd=tmp_path,
            env=os.environ | {"PIANO_BASE_URL": stub_model.url} | env,
            input=typed,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_a_question_is_answered_and_the_next_step_named(terminal, stub_model):
    stub_model.says("Paris.")

    ran = terminal("What is the capital", "of France?")

    assert (ran.returncode, ran.stdout) == (0, "Paris.\n")
    assert "python -m piano_jupyter --lab" in ran.stderr
    assert stub_model.requests[0]["messages"][-1]["content"] == "What is the capital of France?"


def test_an_answer_that_broke_off_restarts_on_a_new_line(terminal, stub_model):
    stub_model.says(ServerReply("London is", breaks_off=True), "Paris.")

    assert terminal("capital?").stdout == "London \nParis.\n"


def test_a_question_comes_from_standard_input_too(terminal, stub_model):
    assert terminal("-", typed="hello\n").stdout == "You said: hello\n\n"


def test_characters_that_the_terminal_lacks_are_shown_as_numbers(terminal, stub_model):
    stub_model.says("caf\xe9 \x1b[2J")

    ran = terminal("hi", PYTHONIOENCODING="ascii")

    assert (ran.returncode, ran.stdout) == (0, "caf\\xe9 \\u2039U+001B\\u203a[2J\n")


def test_the_thread_option_continues_a_thread(terminal, stub_model):
    terminal("hello")

    terminal("--thread", "hello", "again")

    assert [message["content"] for message in stub_model.requests[1]["messages"][1:]] == [
        "hello",
        "You said: hello",
        "again",
    ]


def test_two_agents_answer_with_their_names_and_so_does_an_agent_that_one_asks(terminal, stub_model, tmp_path):
    from piano_jupyter import Piano

    async def add_agents():
        async with Piano(workspace=tmp_path, database=tmp_path / ".piano" / "piano.duckdb") as piano:
            for name in ("ada", "bo", "cy"):
                await piano.add_agent(name, system_prompt=name)

    import asyncio

    asyncio.run(add_agents())
    says = {"ada": "What do you think, @cy?", "bo": "Two.", "cy": "Three."}
    stub_model.answer = lambda asked: says[asked["messages"][0]["content"]]

    ran = terminal("@ada @bo count")

    assert ran.returncode == 0
    assert sorted(ran.stdout.split("\n\n")) == ["", "ada: What do you think, @cy?", "bo: Two.", "cy: Three."]


#: The terminal in mode full, as no option of it gives: a Piano of its own with the tool bash enabled.
IN_MODE_FULL = """
import asyncio, sys, piano_jupyter.__main__ as terminal
from piano_jupyter import Piano
terminal.Piano = lambda **options: Piano(mode='full', **options)
async def go():
    async with Piano() as piano:
        await piano.update_agent('Assistant', enabled_tools=['bash'])
asyncio.run(go())
sys.argv[1:] = ['go']
sys.exit(terminal.main())
"""


@pytest.mark.parametrize("typed", ["", "y\n", "always\n"])
def test_without_a_terminal_the_call_is_shown_and_denied(stub_model, tmp_path, typed):
    stub_model.says(tool_call("bash", command="touch made"), "It was not allowed.")

    ran = subprocess.run(
        [sys.executable, "-c", IN_MODE_FULL],
        cwd=tmp_path,
        env=os.environ | {"PIANO_BASE_URL": stub_model.url},
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (ran.returncode, ran.stdout) == (0, "It was not allowed.\n")
    assert "Assistant wants to run bash (it runs with your rights, outside any sandbox):\n" in ran.stderr
    assert "  command │ touch made\nno: there is no terminal to ask in\n[bash: denied]" in ran.stderr
    assert stub_model.requests[1]["messages"][-1]["content"].startswith("denied: the user did not allow this call")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("typed", "runs", "says"),
    [
        ("y\n", True, "[bash: ok]"),
        ("always\n", True, "from now on, as long as this runs: allow bash(touch made)"),
        ("sure\n", False, "[bash: denied]"),
    ],
)
def test_a_terminal_shows_the_complete_call_and_only_a_clear_yes_runs_it(stub_model, tmp_path, typed, runs, says):
    stub_model.says(tool_call("bash", command="touch made"), "done")
    keyboard, screen = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", IN_MODE_FULL],
        cwd=tmp_path,
        env=os.environ | {"PIANO_BASE_URL": stub_model.url},
        stdin=screen,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.write(keyboard, typed.encode())
        _, told = process.communicate(timeout=60)
    os.close(keyboard)
    os.close(screen)

    assert process.returncode == 0
    assert "  command │ touch made\n[y]es / [a]lways (allow bash(touch made)) / [N]o " in told
    assert says in told
    assert (tmp_path / "made").exists() == runs


@pytest.mark.parametrize(
    ("words", "env", "code", "says"),
    [
        ([], {}, 2, "usage: python -m piano_jupyter"),
        (["--agent", "adda", "hi"], {}, 1, "no agent named 'adda'; known: Assistant"),
        (["--thread", "nowhere", "hi"], {}, 1, "no thread named 'nowhere'; known: none"),
        (["hi"], {"PIANO_BASE_URL": "file:///etc"}, 1, "must look like http://localhost:8080/v1"),
    ],
)
def test_a_mistake_is_one_sentence(terminal, words, env, code, says):
    ran = terminal(*words, **env)

    assert ran.returncode == code
    assert says in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_model_that_fails_is_one_sentence(terminal, stub_model):
    stub_model.says(ServerReply("no template", status=500))

    ran = terminal("hi")

    assert (ran.returncode, ran.stderr) == (1, "the server answered 500: no template\n")


@pytest.mark.parametrize("planted", ["notebooks", "notebooks/01_first_chat.ipynb"])
def test_lab_does_not_write_the_first_notebook_through_a_link(terminal, tmp_path, tmp_path_factory, planted):
    (tmp_path / "jupyterlab").mkdir()
    for name in ("__init__", "__main__"):
        (tmp_path / f"jupyterlab/{name}.py").write_text("")
    outside = tmp_path_factory.mktemp("outside")
    (tmp_path / planted).parent.mkdir(exist_ok=True)
    (tmp_path / planted).symlink_to(outside if planted == "notebooks" else outside / "new")

    ran = terminal("--lab", PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))

    assert list(outside.iterdir()) == []
    if planted == "notebooks":
        assert "notebooks is a link that leads out of the workspace" in ran.stderr
        assert ran.returncode == 1
    else:
        assert (tmp_path / planted).is_file()
        assert ran.returncode == 0


def test_lab_copies_the_first_notebook_with_its_cassette_and_opens_it(terminal, tmp_path):
    fake = tmp_path / "fake" / "jupyterlab"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("")
    (fake / "__main__.py").write_text("import sys; print(sys.argv[-1])")

    ran = terminal("--lab", PYTHONPATH=os.pathsep.join([str(fake.parent), os.environ.get("PYTHONPATH", "")]))

    assert (ran.returncode, ran.stdout.strip()) == (0, str(Path("notebooks", "01_first_chat.ipynb")))
    assert {path.name for path in (tmp_path / "notebooks").iterdir()} >= {"01_first_chat.ipynb", "01_first_chat.jsonl"}


class Screen:
    """A program on a terminal of its own: what it writes there, and what is typed."""

    def __init__(self, folder, stub, *words):
        self._master, terminal = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, *words],
            cwd=folder,
            env=os.environ | {"PIANO_BASE_URL": stub.url, "IPYTHONDIR": str(folder / ".ipython"), "TERM": "xterm"},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )
        os.close(terminal)
        self.shown = ""
        self._read_bytes = b""

    def until(self, sign, after=0):
        """Read until something is shown; return how much was shown by then."""
        ends = time.monotonic() + DEADLINE
        while sign not in self.shown[after:]:
            assert time.monotonic() < ends, self.shown
            assert self._read(), self.shown
        return len(self.shown)

    def type(self, line):
        os.write(self._master, line.encode() + b"\n")

    def end(self):
        """Read what is left, and return all that was shown."""
        while self._read():
            pass
        os.close(self._master)
        self.process.wait(DEADLINE)
        return self.shown

    def _read(self):
        if not select.select([self._master], [], [], DEADLINE)[0]:
            return False
        try:
            piece = os.read(self._master, 65536)
        except OSError:  # how Linux says that nobody has the terminal any more
            return False
        self._read_bytes += piece
        self.shown = self._read_bytes.decode(errors="replace")
        return bool(piece)


@pytest.fixture
def screen(tmp_path, stub_model):
    """`screen("-m", "IPython")` starts Python on a terminal of its own."""
    started = []

    def start(*words):
        started.append(Screen(tmp_path, stub_model, *words))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


def in_pieces(text, size=1):
    return ServerReply(text, pieces=tuple(text[at : at + size] for at in range(0, len(text), size)))


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_an_answer_cannot_control_a_real_terminal_however_it_is_split(screen, stub_model, size):
    stub_model.says(in_pieces(HOSTILE, size))

    shown = screen("-m", "piano_jupyter", "hi").end()

    assert "a‹U+001B›[2J‹U+001B›]0;owned‹U+0007›b‹U+001B›]52;c;cm0gLXJm" in shown
    assert not OBEYED.search(shown)


def test_ordinary_text_reaches_a_real_terminal_unchanged(screen, stub_model):
    stub_model.says(in_pieces(ORDINARY))

    assert ORDINARY.replace("\n", "\r\n") in screen("-m", "piano_jupyter", "hi").end()


def test_notes_errors_and_names_cannot_control_a_real_terminal(screen, stub_model, tmp_path):
    (tmp_path / "notes.txt").write_text(HOSTILE)
    stub_model.says(tool_call("read_file", path=HOSTILE), ServerReply(HOSTILE, status=500))
    stub_model.models = [HOSTILE, "qwen3:32b"]

    shown = screen("-m", "piano_jupyter", "hi").end() + screen("-m", "piano_jupyter", "--agent", HOSTILE, "hi").end()

    assert "the server answered 500: a" in shown
    assert "no agent named" in shown
    assert not OBEYED.search(shown)


def test_an_approval_prompt_cannot_control_a_real_terminal(screen, stub_model):
    stub_model.says(tool_call("bash", command=f"echo {HOSTILE}"), "done")

    asking = screen("-c", IN_MODE_FULL)
    asking.until("[N]o ")
    asking.type("n")

    assert not OBEYED.search(asking.end())


#: What is typed into IPython, once the answers were asked for; each shows something of what a model or server said.
LOOKS = [
    "%piano history",
    "%piano threads",
    "%piano search owned",
    "%piano models",
    "%piano events",
    "%piano agents",
    "%piano sql SELECT content FROM messages",
    "told = await piano.messages((await piano.threads())[0])",
    "told",
    "told[1]",
    "print(told)",
    "await piano.sql('SELECT content FROM messages')",
    "%piano ask fail",
    "await piano.ask('fail')",
    "%piano sql SELECT error(content) FROM messages WHERE content LIKE '%owned%'",
    "await piano.sql(\"SELECT error(content) FROM messages WHERE content LIKE '%owned%'\")",
]


@pytest.fixture
def typed_into_ipython(screen):
    """`typed_into_ipython(lines)` types lines into IPython, each at its prompt, and returns all that is shown."""

    def type_all(lines):
        shell = screen(
            *("-m", "IPython", "--simple-prompt", "--no-banner", "--colors=NoColor"),
            *("--no-confirm-exit", "--no-term-title"),
        )
        at = 0
        for number, line in enumerate([*lines, "exit"], 1):
            at = shell.until(f"In [{number}]: ", at)
            shell.type(line)
        return shell.end().replace("\r\n", "\n")

    return type_all


def test_a_terminal_shows_an_answer_once_and_no_empty_out(typed_into_ipython):
    lines = ["%load_ext piano_jupyter", "%piano agent ada --model small", "%piano ask hi", "_"]
    more = [
        "%piano ask @ada @Assistant both?",
        "job = %piano send later",
        "await piano.wait(job);",
        "%piano wait",
        "Out[3]",
    ]

    shown = typed_into_ipython([*lines, *more])

    assert "%piano ask hi\nYou said: hi\n\nIn [4]: " in shown
    assert "In [4]: _\nOut[4]: You said: hi\n" in shown
    assert "Assistant:\nYou said: both?\n\nIn [6]: " in shown
    assert "%piano wait\nOut[8]: You said: " in shown, "it was answered before, so nothing was streamed"
    assert "In [9]: Out[3]\nOut[9]: You said: hi\n" in shown


def test_in_ipython_nothing_controls_the_terminal(typed_into_ipython, stub_model, tmp_path):
    (tmp_path / "notes.txt").write_text(HOSTILE)
    stub_model.models = [HOSTILE, "qwen3:32b"]

    def answer(asked):
        last = asked["messages"][-1]
        if "fail" in last["content"]:
            return ServerReply(HOSTILE, status=500)
        if last["role"] == "user" and "read" in last["content"]:
            return tool_call("read_file", path="notes.txt")
        return in_pieces(HOSTILE)

    stub_model.answer = answer
    lines = ["%load_ext piano_jupyter", "%piano agent Assistant --tools read_file", "%piano thread --new talk"]

    shown = typed_into_ipython([*lines, "%piano ask hi", "%piano ask read", *LOOKS])

    assert shown.count("a‹U+001B›[2J") > len(LOOKS)
    assert shown.count("Error: the server answered 500: a") == 2
    assert not OBEYED.search(shown)
    assert "Traceback" not in shown
