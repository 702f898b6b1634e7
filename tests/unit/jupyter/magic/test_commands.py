"""What is pure of the sub-commands: their usage, the options of a request, the user's files, the bars of a plot."""

import inspect
import re

import pytest

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.jupyter.magic.catalog import ALL, COMMANDS
from piano_jupyter.jupyter.magic.commands.agents import request_options
from piano_jupyter.jupyter.magic.manual import DOCS, ManualPage, topics
from piano_jupyter.jupyter.magic.user_files import read_text, write_text
from piano_jupyter.jupyter.render.usage_plot import token_bars
from piano_jupyter.records import Rows

COMMANDS_PAGE = (DOCS / "commands.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_manual_has_each_usage_as_help_shows_it(name):
    head = f"%piano {name} {COMMANDS[name].usage}".strip().replace("|", r"\|")

    assert f"| `{head}` |" in COMMANDS_PAGE


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_sub_command_has_a_usage_a_sentence_and_an_example(name):
    explained = COMMANDS[name].explanation.split("\n\n")

    assert explained[0].startswith(f"%piano {name}")
    assert re.match(r"[A-Z](?:(?!\. ).)*\.$", explained[1], re.MULTILINE), "one sentence, for the list of all"
    assert explained[-1].startswith(f"For example:  %piano {name}")


@pytest.mark.parametrize("each", ALL, ids=lambda each: each.name)
def test_options_stand_before_text_and_after_names(each):
    options = [f"[{name} {value}]" if value else f"[{name}]" for name, value in each.options.items()]
    names, _, text = each.takes.rpartition(" ") if each.is_text else (each.takes, "", "")

    assert each.usage == " ".join(filter(None, [names, *options, text]))


def test_help_lists_each_sub_command_once_in_the_order_of_the_list_then_the_topics():
    rows = list(COMMANDS["help"].run(None, text=""))
    commands = [name for name, takes, _ in rows if takes != "TOPIC"]
    manual = [about.removeprefix("Manual: ") for _, takes, about in rows if takes == "TOPIC"]
    table = repr(COMMANDS["help"].run(None, text=""))

    assert commands == ["%%piano", *(each.name for each in ALL)]
    assert list(COMMANDS) == commands[1:]
    assert ", ".join(manual).split(", ") == list(topics())
    assert [each for each in manual if each not in table] == [], "all are seen"


@pytest.mark.parametrize("topic", topics())
def test_a_manual_page_is_rendered_completely_and_its_links_become_help_commands(topic):
    page = COMMANDS["help"].run(None, text=topic)
    text, html = repr(page), page._repr_html_()

    assert isinstance(page, ManualPage)
    assert text.startswith("# ")
    assert "<h1>" in html
    assert "<math" not in html, "a price is no formula"
    assert not re.search(r"\]\((?!https:)[^)]*\.md\)", text), "a link in the manual leads nowhere in a notebook"
    assert text.count("\n| --- |") == html.count("<table")
    assert all(named in topics() for named in re.findall(r"`%piano help ([a-z-]+)`", text))


def test_no_topic_has_the_name_of_a_sub_command():
    assert not set(topics()) & set(COMMANDS)


def test_help_for_an_unknown_word_lists_sub_commands_and_topics():
    with pytest.raises(NotFoundError, match=r"no sub-command or topic named 'setings'.*settings"):
        COMMANDS["help"].run(None, text="setings")


def test_a_usage_is_parsed_into_arguments_and_options():
    ask, agent = COMMANDS["ask"], COMMANDS["agent"]

    assert (ask.takes, ask.is_text, ask.asks) == ("[@AGENT …] TEXT", True, True)
    assert ask.options == {
        "--thread": "THREAD",
        "--model": "MODEL",
        "--json": "SCHEMA",
        "--into": "NAME",
        "--no-wait": "",
        "--raw": "",
        "--map": "FRAME",
        "--limit": "N",
        "--name": "BATCH",
    }
    assert (agent.takes, agent.is_text, agent.asks) == ("AGENT", False, False)
    assert agent.options["--tools"] == "TOOL,…"
    assert COMMANDS["stats"].options == {"--by": "agent|model|day|batch", "--plot": ""}


@pytest.mark.parametrize("each", ALL, ids=lambda each: each.name)
def test_a_sub_command_is_a_coroutine_of_the_piano_or_a_function_of_the_session(each):
    first, *others = inspect.signature(each.run).parameters.values()
    given = {"text"} if each.takes else set()
    given |= {"agents"} if each.asks else set()
    given |= {"cell"} if each.cell and not each.is_text else set()
    given |= {option[2:].replace("-", "_") for option in each.options}

    named = {other.name for other in others if other.kind is not other.VAR_KEYWORD}

    assert first.name.strip("_") == ("session" if each.waits_in_cell else "piano")
    assert named <= given
    assert named == given or any(other.kind is other.VAR_KEYWORD for other in others)


def test_request_options_are_json_or_else_text_and_null_removes_one():
    written = 'seed=7,stop=["a","b"], top_p=0.9,effort=low,logprobs=null'

    assert request_options("0.2", written) == {
        "seed": 7,
        "stop": ["a", "b"],
        "top_p": 0.9,
        "effort": "low",
        "logprobs": None,
        "temperature": 0.2,
    }
    assert request_options(None, "") == {}
    assert request_options("null", "") == {"temperature": None}


@pytest.mark.parametrize(
    ("temperature", "written", "says"),
    [
        ("hot", "", r"--temperature takes a number of at least 0, or null"),
        ("-1", "", "not '-1'"),
        ("inf", "", "not 'inf'"),
        (None, "seed", "--option takes NAME=VALUE, as in --option seed=7,top_p=0.9, not 'seed'"),
        (None, "stop=[1", r"the value of --option stop looks like JSON but is not valid: \[1"),
    ],
)
def test_an_invalid_option_value_is_one_sentence(temperature, written, says):
    with pytest.raises(PianoError, match=says):
        request_options(temperature, written)


def test_a_file_is_written_completely_and_only_replaced_with_force(tmp_path):
    file = tmp_path / "talk.md"

    write_text(str(file), "one\n", tmp_path, force=False)
    with pytest.raises(PianoError, match=r"talk\.md exists; --force replaces it"):
        write_text(str(file), "two\n", tmp_path, force=False)
    kept = file.read_text()
    write_text(str(file), "thrée\n", tmp_path, force=True)

    assert kept == "one\n"
    assert read_text(str(file), tmp_path) == "thrée\n"
    assert [each.name for each in tmp_path.iterdir()] == ["talk.md"]


def test_a_file_that_cannot_be_written_is_one_sentence_and_leaves_nothing(tmp_path):
    with pytest.raises(PianoError, match=r"there is no folder .*nowhere; create it first"):
        write_text(str(tmp_path / "nowhere" / "talk.md"), "", tmp_path, force=False)
    with pytest.raises(PianoError, match=r"is a folder; name a file in it"):
        write_text(str(tmp_path), "", tmp_path, force=True)
    with pytest.raises(PianoError, match="cannot be written: file name too long"):
        write_text(str(tmp_path / ("x" * 260)), "", tmp_path, force=False)
    with pytest.raises(PianoError, match="cannot be written: file name too long"):
        write_text(str(tmp_path / ("x" * 300)), "", tmp_path, force=False)
    with pytest.raises(UnicodeEncodeError):
        write_text(str(tmp_path / "talk.md"), "\ud800", tmp_path, force=False)

    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path):
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")

    with pytest.raises(PianoError, match=r"none\.jsonl cannot be read: no such file or directory"):
        read_text(str(tmp_path / "none.jsonl"), tmp_path)
    with pytest.raises(PianoError, match="bytes is not a text file in UTF-8"):
        read_text(str(tmp_path / "bytes"), tmp_path)
    with pytest.raises(PianoError, match="is a folder; name a file in it"):
        read_text(str(tmp_path), tmp_path)


def test_the_chart_separates_prompt_cached_and_completion_tokens():
    columns = ("agent", "answers", "prompt_tokens", "cached_tokens", "completion_tokens", "tokens_per_second")
    rows = Rows(columns, (("ada", 2, 100, 80, 20, 23.5), ("bob", 1, None, None, 5, None)))

    assert token_bars(rows) == {
        "prompt_tokens": [20.0, 0.0],
        "cached_tokens": [80.0, 0.0],
        "completion_tokens": [20.0, 5.0],
    }
