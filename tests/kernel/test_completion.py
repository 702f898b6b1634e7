"""TAB in a real kernel, as a front end asks for it."""

import pytest
from tab_completion import offered_for, tab


@pytest.fixture(scope="module")
def known(seen_kernel):
    """The kernel of this module, with an agent and a thread of a long name."""
    seen_kernel.run("%piano agent ada --model qwen3:8b")
    seen_kernel.run("%piano thread --new Data work")
    seen_kernel.run("open('notes.txt', 'w').close(); known_name = 1; a_schema = {}; some_rows = [{'review': 1}]")
    seen_kernel.run("import os; os.remove('bad.jsonl')")
    seen_kernel.run("os.mkdir('plots'); open('plots/sales.png', 'w').close()")
    return seen_kernel


@pytest.mark.parametrize(
    ("code", "offered", "of"),
    [
        ("%piano re", ["record", "regenerate", "replay", "restore", "resume", "retry"], "re"),
        ("x = %piano regen", ["regenerate"], "regen"),
        ("%piano ask --no", ["--no-wait"], "--no"),
        ("%piano ask @a", ["@Assistant", "@ada"], "@a"),
        ("%piano ask --json ", ["a_schema"], ""),
        ("%%piano @ada --thr", ["--thread"], "--thr"),
        ("%%piano\n@ad", ["@ada"], "@ad"),
        ("%piano ask {{know", ["known_name"], "know"),
        ("%%piano @ada\nhow many {{known_name.re", ["real"], "re"),
        ("%%piano\nWhat is in {{ima", ["image("], "ima"),
        ("%%piano\nWhat is in {{image(", ['"plots/'], ""),
        ("%%piano\nWhat is in {{image('plots/", ["'plots/sales.png')"], "'plots/"),
        ("%%piano --map ", ["some_rows"], ""),
        ("%%piano --map some_rows\nIs it good? {{re", ["review"], "re"),
        ("%piano sql SELECT * FROM me", ["messages"], "me"),
        ("%%piano sql\nSELECT hop", ["hops"], "hop"),
        ("%%time\n%piano regen", ["regenerate"], "regen"),
        ('%piano ask --thread "Da', ['"Data work"'], '"Da'),
        ("%piano thread Data w", ['"Data work"'], "Data w"),
        ("%piano agent bob --model qwen3:", ["qwen3:32b", "qwen3:8b"], "qwen3:"),
        ("%piano agent ada --tools read_file,ba", ["bash"], "ba"),
        ("%piano agent ada --skills sql", ["sql-with-duckdb"], "sql"),
        ("%piano help fo", ["fork"], "fo"),
        ("%piano help trou", ["trouble"], "trou"),
        ("%piano import notes", ["notes.txt"], "notes"),
        ("%piano agent ada --system-file ", ["notes.txt", "plots/"], ""),
    ],
)
def test_tab_offers_matching_words_and_nothing_else(known, code, offered, of):
    assert offered_for(known, code) == (offered, of)


@pytest.mark.parametrize(
    "code",
    [
        "%piano agent newcomer",
        "%piano agents ",
        "%piano nonsense ",
        "%piano ask what @a",
        "%%piano\nwhat @ad",
        "%%piano\n{{known_name.bit_",
    ],
)
def test_tab_offers_nothing_where_nothing_matches(known, code):
    assert tab(known, code)[0] == []


def test_jobs_and_messages_are_offered_by_their_short_ids(known):
    job = known.run("%piano queue --all").text.splitlines()[1].split()[0]

    assert offered_for(known, "%piano retry ") == ([job], "")
    known.run("%piano thread hello")
    assert len(offered_for(known, "%piano history --at ")[0]) == 2


def test_elsewhere_tab_works_as_without_the_extension(known):
    assert "known_name" in tab(known, "known_na")[0]
    assert "%piano" in tab(known, "%pia")[0]


def test_tab_opens_nothing_and_is_removed_by_unload(kernel, tmp_path):
    assert tab(kernel, "%piano ask --r") == (["--raw"], "--r")
    assert tab(kernel, "%piano ask @a")[0] == []
    assert not (tmp_path / ".piano").exists()

    kernel.run("%unload_ext piano_jupyter")

    assert tab(kernel, "%piano regen")[0] == []


def test_tab_offers_the_last_known_names_while_the_chat_is_busy(known):
    known.run("import threading\ngate = threading.Event()\nasync def busy(piano):\n    gate.wait(30)")
    offered_for(known, "%piano ask @ad")
    offered_for(known, "%piano thread hel")
    session = "get_ipython().magics_manager.magics['line']['piano'].__self__"

    known.run(f"waiting = {session}.start(busy)")
    while_busy = [tab(known, "%piano ask --raw --thr"), tab(known, "%piano ask @ad"), tab(known, "%piano thread hel")]
    done = known.run("print(waiting.done(), gate.set())")

    assert while_busy == [(["--thread"], "--thr"), (["@ada"], "@ad"), (["hello"], "hel")]
    assert done.stream == "False None\n"
