"""The public API documents itself: each public thing has its sections, and each example runs as it stands."""

import ast
import asyncio
import contextlib
import dataclasses
import doctest
import enum
import inspect
import io
import re

import pytest
import traitlets
from IPython.core.interactiveshell import InteractiveShell

import piano_jupyter
from piano_jupyter import Piano, PianoConfig, errors, testing
from piano_jupyter.events import ApprovalRequested
from piano_jupyter.piano import Status
from piano_jupyter.records import Hit, Model
from piano_jupyter.testing import ScriptedServer, tool_call
from piano_jupyter.tool import tool

DEADLINE = 30
SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Example):\n((?:(?: {4}.*)?(?:\n|\Z))+)", re.MULTILINE)
ENTRY = re.compile(r"^ {4}\*{0,2}([\w.]+):", re.MULTILINE)
FOUND = doctest.DocTestParser().get_examples
LENIENT = doctest.ELLIPSIS

EXPORTED = {
    f"{module.__name__}.{name}": getattr(module, name) for module in (piano_jupyter, testing) for name in module.__all__
}
VERBS = {
    f"{kind.__name__}.{name}": thing.__func__ if isinstance(thing, staticmethod) else thing
    for kind in (Piano, ScriptedServer)
    for name, thing in vars(kind).items()
    if not name.startswith("_")
    and (inspect.isfunction(thing) or isinstance(thing, staticmethod))
    and name != "next_reply"
}
METHODS = {"Rows.df": piano_jupyter.Rows.df}
RECORDS = {"Status": Status, "Hit": Hit, "Model": Model}  # what verbs return
PUBLIC = {**EXPORTED, **VERBS, **METHODS}
NO_EXAMPLE = {testing.ChatRequest, testing.Delta, testing.Reply}
#: A constructor or verb that has nothing to raise that a caller would catch.
RAISES_NOTHING = {
    *("piano_jupyter.JobStatus", "piano_jupyter.PianoError", "piano_jupyter.load_ipython_extension"),
    *("piano_jupyter.unload_ipython_extension", "piano_jupyter.testing.ScriptedServer"),
    *("piano_jupyter.testing.echo", "piano_jupyter.testing.tool_call", "Piano.agents", "Piano.approvals"),
    *("Piano.backups", "Piano.close_now", "Piano.distrust", "Piano.images_refused", "Piano.drain", "Piano.events"),
    *("Piano.answering_model", "Piano.known_models", "Piano.model_names", "Piano.notices"),
    *("Piano.check_sandbox", "Piano.mentioned", "Piano.model_status"),
    *("Piano.mcp_file", "Piano.mcp_servers"),
    *("Piano.recent_events", "Piano.skill_problems", "Piano.skills", "Piano.start", "Piano.stop"),
    *("Piano.tool_verdicts", "Piano.tools", "Piano.trust", "Piano.unfinished"),
    *("ScriptedServer.reset", "ScriptedServer.says", "ScriptedServer.stop"),
}


def sections(thing):
    return dict(SECTION.findall(inspect.getdoc(thing)))


def entries(thing, section):
    return ENTRY.findall(sections(thing).get(section, ""))


def is_record(thing):
    return dataclasses.is_dataclass(thing) or (
        isinstance(thing, type) and (issubclass(thing, enum.Enum) or is_named_tuple(thing))
    )


def is_named_tuple(thing):
    return isinstance(thing, type) and issubclass(thing, tuple)


def parameters(thing):
    """Return the names of what a call of it takes."""
    if thing is PianoConfig or is_record(thing) or thing is piano_jupyter.PianoError:
        return []
    return [name for name in inspect.signature(thing).parameters if name != "self"]


@pytest.mark.parametrize("thing", PUBLIC.values(), ids=PUBLIC)
def test_the_arguments_that_a_docstring_names_are_those_of_the_signature(thing):
    assert entries(thing, "Args") == parameters(thing)


@pytest.mark.parametrize("thing", PUBLIC.values(), ids=PUBLIC)
def test_a_docstring_says_what_is_returned_where_something_is(thing):
    returned = None if isinstance(thing, type) else inspect.signature(thing).return_annotation

    assert ("Returns" in sections(thing)) is (returned is not None and thing is not piano_jupyter.Rows.df)


@pytest.mark.parametrize("name", [*VERBS, "piano_jupyter.Piano", "piano_jupyter.tool", "piano_jupyter.PianoConfig"])
def test_a_docstring_says_what_is_raised_and_these_errors_exist(name):
    known = {
        **vars(errors),
        "ImportError": ImportError,
        "OSError": OSError,
        "traitlets.TraitError": traitlets.TraitError,
    }
    raised = entries(PUBLIC[name], "Raises")

    assert bool(raised) is (name not in RAISES_NOTHING)
    assert set(raised) <= set(known)


@pytest.mark.parametrize("thing", {**EXPORTED, **RECORDS}.values(), ids=[*EXPORTED, *RECORDS])
def test_the_fields_of_a_record_are_in_its_docstring(thing):
    if dataclasses.is_dataclass(thing):
        assert entries(thing, "Attributes") == [field.name for field in dataclasses.fields(thing)]
    elif isinstance(thing, type) and issubclass(thing, enum.Enum):
        assert entries(thing, "Attributes") == [member.name for member in thing]
    elif is_named_tuple(thing):
        assert entries(thing, "Attributes") == list(inspect.signature(thing).parameters)


@pytest.mark.parametrize("name", sorted(PianoConfig.class_own_traits(config=True)))
def test_the_help_of_a_setting_is_a_sentence_and_names_its_unit(name):
    trait = PianoConfig.class_own_traits()[name]

    assert re.fullmatch(r"[A-Z].*\.", trait.help, re.DOTALL)
    assert "knob" not in trait.help
    if isinstance(trait, traitlets.Float):
        assert re.search(r"\bseconds\b|\bGiB\b", trait.help)
    elif isinstance(trait, traitlets.Int):
        assert re.search(r"\bHow many (?!may\b)\w+", trait.help)


def test_an_overloaded_verb_shows_the_docstring_of_its_implementation():
    assert inspect.getdoc(Piano.ask).startswith("Send a message and return the answer.")


# -- each example runs ---------------------------------------------------------------------------------

ANSWERS = {
    "capital of France": "Paris.",
    '{"country": "France"}': "Paris.",
    '{"country": "Italy"}': "Rome.",
    "people live": "Two million.",
    "three rivers": '["Rhine", "Elbe", "Oder"]',
}
SWAPS = {
    "/running": {"running": [{"model": "qwen3:32b", "state": "ready"}]},
    "/upstream/qwen3%3A8b/health": {},
    "/api/models/unload/qwen3%3A32b": {},
}


def answer(request):
    """Answer as the examples have it: by the tools that are offered, else by the question."""
    last = request["messages"][-1]
    offered = {each["function"]["name"] for each in request.get("tools", [])}
    if last["role"] == "tool":
        return f"It costs {last['content']} euros."
    if "delete_rows" in offered:
        return tool_call("delete_rows", table="sales")
    if "price" in offered:
        return tool_call("price", item="tea")
    known = [said for words, said in ANSWERS.items() if words in last["content"]]
    return known[0] if known else testing.echo(request)


@pytest.fixture(scope="module")
def server():
    with ScriptedServer(answer=answer, models=["qwen3:32b", "qwen3:8b"], serves=SWAPS) as server:
        yield server


@pytest.fixture
def our_piano(server, tmp_path, monkeypatch):
    """Piano, on the scripted server where an example names nothing else."""
    monkeypatch.chdir(tmp_path)  # some examples make files

    class OurPiano(Piano):
        def __init__(self, **options):
            here = {} if "model" in options else {"base_url": server.url}
            super().__init__(**{"workspace": tmp_path, "embedded": "never", "shutdown_timeout": 0, **here, **options})

    return OurPiano


@contextlib.asynccontextmanager
async def opened(our_piano, text):
    """Yield what the examples of the verbs begin with: a Piano that has answered one question."""
    async with our_piano(database=":memory:") as piano:
        answered = await piano.ask("What is the capital of France?")
        if "approvals()" in text:

            @tool(asks=True)
            def delete_rows(table: str) -> str:
                """Delete all rows of a table."""

            piano.add_tool(delete_rows)
            await piano.update_agent("Assistant", enabled_tools=["delete_rows"])
            events = piano.bus.stream(ApprovalRequested)
            await piano.send("Empty the table sales.")
            await anext(events)
        yield {"piano": piano, "answer": answered}


async def run(text, names):
    """Run the examples in a text, `await` at the top included; return those that did not show what they say."""
    wrong = []
    for example in FOUND(inspect.cleandoc(text)):
        code = compile(example.source, "<example>", "single", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            running = eval(code, names)
            if inspect.iscoroutine(running):
                await running
        if not doctest.OutputChecker().check_output(example.want, shown.getvalue(), LENIENT):
            wrong.append((example.source, example.want, shown.getvalue()))
    return wrong


@pytest.fixture
def shell(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    shell = InteractiveShell.instance()
    yield shell
    shell.history_manager.end_session()
    InteractiveShell.clear_instance()


@pytest.mark.parametrize("name", [name for name, thing in PUBLIC.items() if thing not in NO_EXAMPLE])
async def test_each_example_of_a_docstring_runs_and_shows_what_it_says(name, our_piano, request):
    text = sections(PUBLIC[name])["Example"]
    exported = {name.rpartition(".")[2]: thing for name, thing in EXPORTED.items()}
    names = {**vars(errors), **exported, "Piano": our_piano}
    if "get_ipython" in text:
        shell = request.getfixturevalue("shell")
        piano_jupyter.load_ipython_extension(shell)
        names["get_ipython"] = lambda: shell
    assert FOUND(inspect.cleandoc(text))

    async with asyncio.timeout(DEADLINE), opened(our_piano, text) as given:
        wrong = await run(text, names | given)

    assert wrong == []
