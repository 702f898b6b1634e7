"""%piano and %%piano in a real kernel."""

import json
import re
import time

import pytest
from store_processes import end_store_process
from waiting import until

from piano_jupyter.testing import ServerReply, tool_call


def plain(stream):
    """Return what a cell wrote, without its colours."""
    return re.sub(r"\x1b\[[\d;]*m", "", stream)


def test_a_cell_asks_and_shows_the_answer_once_at_its_end(kernel, stub_model):
    stub_model.says("The capital is **Paris**.")

    cell = kernel.run("%%piano\nWhat is the capital of France?")

    assert cell.status == "ok"
    assert cell.text == "The capital is **Paris**."
    assert "<strong>Paris</strong>" in cell.shown[0]["text/html"]
    assert cell.outputs[0] == ("display_data", {})
    assert cell.outputs[-2:] == [("display_data", cell.shown[0]), ("update_display_data", {})]
    assert stub_model.requests[0]["messages"][-1] == {"role": "user", "content": "What is the capital of France?"}


def html_of(message):
    """Return the HTML that a display is updated with; "" for other messages."""
    return message["content"]["data"]["text/html"] if message["msg_type"] == "update_display_data" else ""


def test_the_answer_streams_into_the_cell(kernel, stub_model):
    stub_model.says(ServerReply("**one** two three", held=True))

    started = kernel.start("%%piano\ncount")
    until(lambda: stub_model.requests, "the model was not asked")
    seen = until(
        lambda: (html := html_of(kernel.client.get_iopub_msg(timeout=30))) and "<strong>" in html and html,
        "nothing was streamed",
    )
    stub_model.release.set()
    cell = kernel.finish(started)

    assert "<p><strong>one</strong></p>" in seen
    assert cell.text == "**one** two three"


def test_the_answer_is_a_value_that_can_be_displayed_later(kernel, stub_model):
    stub_model.says("Paris.")

    cell = kernel.run("answer = %piano ask What is the capital of France?\nprint(answer.role, answer.content)")

    assert cell.stream == "assistant Paris.\n"
    assert kernel.run("answer").text == "Paris."


def test_a_follow_up_continues_the_same_thread(kernel, stub_model):
    stub_model.says("Paris.", "Two million.")

    kernel.run("%%piano\nCapital?")
    kernel.run("%%piano\nHow many live there?")

    told = [message["content"] for message in stub_model.requests[1]["messages"] if message["role"] != "system"]
    assert told == ["Capital?", "Paris.", "How many live there?"]


def test_variables_are_inserted_and_other_braces_stay(kernel, stub_model):
    kernel.run("price = {'tea': 3}")

    kernel.run("%%piano\nIs {{price['tea']}} much? $PATH {price} \\frac{a}{b}")

    assert stub_model.requests[0]["messages"][-1]["content"] == "Is 3 much? $PATH {price} \\frac{a}{b}"


def test_an_agent_is_created_mentioned_and_listed(kernel, stub_model):
    kernel.run('%piano agent ada --model small --system "You are Ada." --tools read_file')
    kernel.run("%%piano @ada\nhi")

    assert stub_model.requests[0]["model"] == "small"
    assert stub_model.requests[0]["messages"][0]["content"] == "You are Ada."
    assert [tool["function"]["name"] for tool in stub_model.requests[0]["tools"]] == ["read_file"]
    assert "@ada        small      read_file" in kernel.run("%piano agents").text


def test_an_interrupt_cancels_the_job_and_the_thread_stays_usable(kernel, stub_model):
    stub_model.says(ServerReply("one two", held=True), "fine")

    started = kernel.start("%%piano\ncount")
    until(lambda: stub_model.requests, "the model was not asked")
    kernel.manager.interrupt_kernel()
    cell = kernel.finish(started)

    assert cell.status == "error"
    assert cell.stream == "AnswerFailedError: interrupted; the job was cancelled; its unfinished answer is not kept\n"
    assert stub_model.disconnected.wait(30)
    assert "cancelled" in kernel.run("%piano queue --all").text
    assert kernel.run("%%piano\nagain").text == "fine"


def test_no_wait_returns_at_once_and_wait_returns_the_answer(kernel, stub_model):
    stub_model.says(ServerReply("late answer", held=True))

    sent = kernel.run("%%piano --no-wait\nhi")
    stub_model.release.set()

    assert sent.text.splitlines()[1] in {"status  queued", "status  running"}
    assert kernel.run("%piano wait").text == "late answer"


def test_await_in_a_cell_gives_the_answer(kernel, stub_model):
    stub_model.says("Paris.")

    cell = kernel.run("answer = await piano.ask('Capital?')\nprint(answer.content)")

    assert (cell.status, cell.stream) == ("ok", "Paris.\n")


def test_asyncio_run_in_a_notebook_fails_without_having_asked(kernel, stub_model):
    run = kernel.run("import asyncio\nasyncio.run(piano.ask('hi'))")
    later = kernel.run("1 / 0"), kernel.run("import gc\ngc.collect()")

    assert "RuntimeError: asyncio.run() cannot be called from a running event loop" in plain(run.stream)
    assert "never awaited" not in run.stream + "".join(cell.stream for cell in later)
    assert kernel.run("%piano queue --all").text == "nothing runs and nothing waits"
    assert stub_model.requests == []


def test_a_verb_can_be_a_task_of_the_notebook(kernel, stub_model):
    code = "import asyncio\ntask = asyncio.create_task(piano.ask('hi'))\nprint((await task).content)"
    together = "print(*[each.content for each in await asyncio.gather(piano.ask('one'), piano.ask('two'))])"

    assert kernel.run(code).stream == "You said: hi\n"
    assert kernel.run(together).stream == "You said: one You said: two\n"
    stub_model.says(ServerReply("never", held=True))
    cut = kernel.run("await asyncio.wait_for(piano.ask('slow'), 0.5)")
    assert "TimeoutError" in cut.stream
    assert "cancelled" in kernel.run("%piano queue --all").text


def test_a_forgotten_await_gives_a_warning_and_asks_nothing(kernel, stub_model):
    middle = kernel.run("piano.ask('hi')\nx = 1")
    last = kernel.run("piano.ask('hi')")

    assert "RuntimeWarning: piano.ask(...) was never awaited: write await before it" in middle.stream
    assert last.text == "<piano.ask(...) has not started: write await before it>"
    assert stub_model.requests == []


def test_after_a_reset_the_magic_and_the_variable_work(kernel, stub_model):
    kernel.run("%piano ask hello")

    kernel.run("%reset -f")
    kernel.run("%load_ext piano_jupyter")

    assert "hello" in kernel.run("%piano threads").text
    assert kernel.run("answer = await piano.ask('again')\nprint(answer.content)").stream == "You said: again\n"
    kernel.run("del piano")
    assert "piano" not in kernel.run("print([*globals()])").stream.replace("piano_jupyter", ""), "its user deleted it"


def test_a_working_folder_that_was_deleted_is_one_sentence(kernel_of, stub_model):
    kernel = kernel_of()
    kernel.run("import os\nos.mkdir('gone')\nos.chdir('gone')\nos.rmdir('../gone')")

    kernel.load()
    asked = [kernel.run(code).stream for code in ("%piano ask hi", "%piano", "await piano.ask('hi')")]
    kernel.run("os.chdir('..')")

    assert set(asked) == {"PianoError: the working folder was deleted; go to another one (%cd), then try again\n"}
    assert kernel.run("%piano ask hi").text == "You said: hi"


@pytest.mark.parametrize("code", ["piano ask what's up?", "piano help", "\npiano @Assistant hi\nx = 1"])
def test_a_magic_without_its_percent_sign_is_one_sentence(seen_kernel, code):
    first = code.strip().splitlines()[0]

    told = seen_kernel.run(code).stream

    assert told == f"PianoError: without %, `piano` means the Python variable; write %{first}\n"


@pytest.mark.parametrize(
    ("code", "says"), [("piano is None", "False"), ('text = """\npiano ask hi"""\ntext', "'\\npiano ask hi'")]
)
def test_python_that_names_piano_stays_python(seen_kernel, code, says):
    assert seen_kernel.run(code).text == says


def test_events_can_be_followed_in_a_cell(kernel, stub_model):
    code = """
stream = piano.events()
waiting = __import__("asyncio").ensure_future(stream.__anext__())
await __import__("asyncio").sleep(0)
job = await piano.send("hi")
names = [type(await waiting).__name__]
while names[-1] != "JobDone":
    names.append(type(await stream.__anext__()).__name__)
await stream.aclose()
print(names[-1], "MessageDelta" in names)
"""
    cell = kernel.run(code)

    assert (cell.status, cell.stream) == ("ok", "JobDone True\n")


def test_a_tool_from_a_cell_is_called_and_its_line_stands_above_the_answer(kernel, stub_model):
    kernel.run("from piano_jupyter import tool")
    kernel.run("@tool\ndef price(item: str) -> int:\n    'Return a price.'\n    return {'tea': 3}[item]")
    stub_model.says(tool_call("price", item="tea"), "It is 3.")

    kernel.run("%piano agent Assistant --tools price")
    cell = kernel.run("%%piano\nWhat is the price of tea?")

    assert cell.text == "[price(item='tea') → ok: 3]\nIt is 3."
    assert stub_model.requests[1]["messages"][-1]["content"] == "3"


@pytest.mark.parametrize(("typed", "outcome"), [("y", "ok: made"), ("", "denied: the user did not allow this call")])
def test_bash_asks_at_the_prompt_and_only_an_approval_runs_it(kernel_of, stub_model, tmp_path, typed, outcome):
    kernel = kernel_of(stdin=True).load()
    stub_model.says(tool_call("bash", command="echo made; touch made"), "done")
    kernel.run("%config PianoConfig.mode = 'full'")
    kernel.run("%piano agent Assistant --tools bash")

    cell = kernel.run("%%piano\ngo", answers=[typed])

    assert "echo made; touch made" in cell.prompts[0]
    assert outcome in cell.text
    assert (tmp_path / "made").exists() == (typed == "y")


def test_a_front_end_without_input_denies(kernel, stub_model, tmp_path):
    stub_model.says(tool_call("bash", command="touch made"), "done")
    kernel.run("%config PianoConfig.mode = 'full'")
    kernel.run("%piano agent Assistant --tools bash")

    cell = kernel.run("%%piano\ngo")

    assert "did not allow" in cell.text
    assert (
        "Assistant wants to run bash, but nobody could be asked here: it was not run; use %piano panel" in cell.stream
    )
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("%piano thred", "no sub-command named 'thred'; known: thread, threads"),
        ("%%piano @adda\nhi", "no agent named 'adda'; known: Assistant"),
        ("%%piano --thred x\nhi", "no option named '--thred'; known: --thread"),
        ("%%piano --thread nowhere\nhi", "no thread named 'nowhere'; known: hello"),
        ("%%piano\n{{nme}}", "no variable named 'nme'; known: name"),
        ("%%piano\n   \n", "the message is empty"),
        ("%piano agent Assistant --tools bsh", "no tool named 'bsh'; known: bash"),
        ("%piano agent Assistant --skills none-such", "no skill named 'none-such'"),
        ("%piano cancel abc", "no job named 'abc', and none that can be cancelled\n"),
        ("%piano sql SELECT nonsense", 'column "nonsense" was not found because the FROM clause is missing\n'),
        ("%piano sql SELECT * FROM nix", "does not exist; the tables are agents, threads, messages, tool_calls"),
        ("%%piano sql is a language\nreally", "; to ask this as a question, put it below the first line\n"),
        ("%%piano edit this please\nfoo", "shows them; to ask this as a question, put it below the first line\n"),
        (
            "%%piano agent is what?\nfoo",
            "expected one AGENT, got 2: is, what?; put a name with spaces in quotes; to ask this",
        ),
        ("%piano agent bob", "no agent named 'bob'; known: Assistant; %piano agent bob --model M creates it\n"),
        ("%piano thread --rename ''", "a thread needs a title: %piano thread --rename"),
        ("%piano thread --rename Other thing", 'put a title of several words in quotes: --rename "Other thing"\n'),
        ("%piano fork --title An other", 'put a title of several words in quotes: --title "An other"\n'),
        ("%piano export a.md b.md", "expected one FILE, got 2: a.md, b.md; put a name with spaces in quotes\n"),
        (
            "%piano record bad.jsonl",
            "bad.jsonl exists; --force replaces it, %piano replay bad.jsonl answers from it\n",
        ),
        ("%piano record nowhere/x.jsonl", "there is no folder nowhere; create it first\n"),
        ("%piano record --stop", "nothing is being recorded or replayed\n"),
        ("%piano ask;", "there is nothing to ask"),
        ("%piano ASK hi", "sub-commands are in lower case: %piano ask\n"),
        ("%piano settings", "settings is a topic of the manual: %piano help settings\n"),
        ("%piano what?", "no sub-command named 'what?'; known: "),
        ("%piano history --last x", "--last takes a whole number, not 'x'"),
        ("%piano replay none.jsonl", "no cassette at none.jsonl"),
        ('%piano agent "ada', "a quote is not closed"),
        ("%piano edit", "name the message, then write the new text: %piano edit 3fa9c1 and in Spain?"),
        ("%piano edit zz why?", "'zz' is no message's id; %piano history --ids shows them"),
        ("%piano edit abcdef why?", "no message's id ends in 'abcdef'; %piano history --ids shows those of the thread"),
        ("%piano regenerate abcdef", "no message's id ends in 'abcdef'"),
        ("%piano fork abcdef", "no message's id ends in 'abcdef'"),
        ("%piano history --at abcdef", "no message's id ends in 'abcdef'"),
        ("%piano search", "name the words: %piano search quarterly revenue"),
        ("%piano search x --limit 0", "--limit takes a whole number of at least 1, not '0'"),
        ("%piano export", "name the file: %piano export review.md"),
        ("%piano export x.txt", "x.txt does not end in .md, .html, .ipynb or .jsonl; choose a format: --format md"),
        ("%piano export x --format pdf", "no value of --format named 'pdf'; known: md, html, ipynb, jsonl"),
        ("%piano export nowhere/x.md", "there is no folder nowhere; create it first"),
        ("%piano import none.jsonl", "none.jsonl cannot be read: no such file or directory"),
        ("%piano import bad.jsonl", "bad.jsonl: line 1"),
        ("%piano agent", "name the agent: %piano agent ada --model"),
        ("%piano agent ada --temperature hot", "--temperature takes a number of at least 0"),
        ("%piano agent ada --option seed", "--option takes NAME=VALUE"),
        ("%piano agent ada --max-iterations 0", "--max-iterations takes a whole number of at least 1, not '0'"),
        ("%piano agent ada --system-file no.md", "no.md cannot be read: no such file or directory"),
        ('%%piano agent ada --system "x"\ny', "with --system, with --system-file or in the cell, only one of them"),
        ("%piano models --load small", "is not llama-swap"),
        ("%piano stats --by month", "no value of --by named 'month'; known: "),
        ("import sys; sys.modules['matplotlib'] = None\n%piano stats --plot", "--plot needs matplotlib: pip install"),
        ("%piano events --last x", "--last takes a whole number, not 'x'"),
        ("%piano send", "the message is empty"),
        ("%%piano @Assistant @nobody\nhi", "no agent named 'nobody'; known: Assistant"),
        ("%piano wait abcdef", "no job named 'abcdef'; known: "),
        ("%piano retry", "name the job: %piano retry 3fa9c1"),
        ("%piano status now", "%piano status takes no argument, but got 'now'; see %piano status --help"),
        ("%piano help nothing", "no sub-command or topic named 'nothing'"),
    ],
)
def test_a_mistake_is_one_sentence_without_a_traceback(seen_kernel, code, says):
    cell = seen_kernel.run(code)

    assert cell.status == "error"
    assert re.match(r"\w+Error: ", cell.stream)
    assert says in cell.stream
    assert "Traceback" not in cell.stream


def test_an_error_can_be_caught_by_its_class_and_is_the_same_sentence_in_the_logs_of_a_run(kernel, stub_model):
    stub_model.says(ServerReply("the template is broken", status=500))

    caught = kernel.run(
        "from piano_jupyter.errors import ModelError\n"
        "try:\n    get_ipython().run_line_magic('piano', 'ask hi')\n"
        "except ModelError as error:\n    print('caught:', error)"
    )
    told = kernel.error_of("%piano thread nowhere")

    assert "caught: the server answered 500: the template is broken" in caught.stream
    assert told["ename"] == "NotFoundError"
    assert told["evalue"].startswith("no thread named 'nowhere'")
    assert told["traceback"] == [f"NotFoundError: {told['evalue']}"]


def test_a_model_that_fails_is_one_sentence_and_retry_answers(kernel, stub_model):
    stub_model.says(ServerReply("the template is broken", status=500), "fine")

    cell = kernel.run("%%piano\nhi")
    failed = kernel.run("%piano queue")
    job = failed.text.splitlines()[1].split()[0]
    kernel.run(f"%piano retry {job}")

    assert cell.stream == "ModelRefusedError: the server answered 500: the template is broken\n"
    assert "failed" in failed.text
    assert kernel.run("%piano wait").text == "fine"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (
            "%piano",
            "agent   @Assistant\nmodel   qwen3:32b loaded\nthread  hello\njobs    nothing runs or waits\nserver  http",
        ),
        ("%piano status --all", "sandbox    files: "),
        ("%piano threads", "hello"),
        ("%piano thread", "current thread: hello"),
        ("%piano history", "You: hello\n\nAssistant: You said: hello"),
        ("%piano tools", "bash         command, timeout"),
        ("%piano skills", "sql-with-duckdb"),
        ("%piano queue", "nothing runs and nothing waits"),
        ("%piano queue --all", "@Assistant  qwen3:32b"),
        ("%piano models", "qwen3:32b  loaded"),
        ("%piano search hello", "hello   Assistant  You said: *hello*"),
        ("%piano search nothing-of-this", "found nothing"),
        ("%piano stats", "agent      answers  first token (s)\nAssistant  1"),
        ("%piano stats --by model", "qwen3:32b  1"),
        ("%piano events", "JobDone"),
        ("%piano events --last 1", "at        event    about"),
        ("%piano approve", "no tool call waits for your approval"),
        ("%piano sql SELECT role, content FROM messages ORDER BY seq", "user       hello\nassistant  You said: hello"),
        ("%piano help", "ask "),
        ("%piano help trouble", "# Trouble\n\nWhat you see when"),
        ("%piano help cancel", "%piano cancel JOB\n\nCancel a job"),
        ("%%piano --help\nx", "As %%piano ask, the cell is your question"),
        ("%piano ask --help me", "For example:  %piano ask @ada"),
        ("%piano threads?", "%piano threads [--all]"),
        ("%piano threads;\n%piano threads", "hello"),
        ("%piano threads --help", "%piano threads [--all]"),
        ("%piano agent Assistant", "model          qwen3:32b"),
    ],
)
def test_each_listing_shows_what_is_stored(seen_kernel, code, says):
    cell = seen_kernel.run(code)

    assert cell.status == "ok"
    assert says in cell.text
    assert "text/html" in cell.shown[0] or "help" in code or code in {"%piano thread", "%piano threads?"}


def test_the_status_leads_with_who_answers_and_keeps_the_details_for_all(seen_kernel):
    short, full = (seen_kernel.run(f"%piano status{option}").text.splitlines() for option in ("", " --all"))

    named = [line.split()[0] for line in short]
    assert named == ["agent", "model", "thread", "jobs", "server", "tools", "more"]
    assert named[:-1] == [line.split()[0] for line in full][:6]
    assert {"models", "sandbox", "database", "workspace"} <= {line.split()[0] for line in full}


def test_statistics_are_drawn_where_matplotlib_is(kernel, stub_model):
    pytest.importorskip("matplotlib")
    kernel.run("%%piano\nhello")

    cell = kernel.run("%piano stats --plot")

    assert cell.status == "ok"
    assert any("image/png" in shown for shown in cell.shown)
    assert "Assistant  1" in cell.text


def test_a_thread_is_opened_renamed_archived_and_found_again(kernel, stub_model):
    kernel.run("%%piano\nfirst")
    kernel.run("%piano thread --new Data work")
    kernel.run("%%piano\nsecond")
    kernel.run('%piano thread --rename "Clean data"')

    assert kernel.run("%piano thread first").text.startswith("current thread: first")
    assert "You: second" in kernel.run("%piano history Clean data").text
    assert kernel.run("%piano thread clean data --archive").text == "archived; the next question opens a new thread"
    assert "Clean data" not in kernel.run("%piano threads").text
    assert "Clean data" in kernel.run("%piano threads --all").text
    assert kernel.run("%piano thread clean data --rename Cleaner").text.startswith("current thread: Cleaner")


def test_config_takes_effect_at_once(kernel, stub_model):
    kernel.run("%config PianoConfig.max_iterations = 1")
    kernel.run("%piano agent Assistant --tools read_file")
    stub_model.says(tool_call("read_file", path="."))

    assert "stopped after 1 rounds" in kernel.run("%%piano\ngo").stream
    assert "must look like" in kernel.run("%config PianoConfig.base_url = 'file:///etc'").stream


def test_unload_removes_everything_and_load_restores_it(kernel, stub_model, tmp_path):
    kernel.run("%%piano\nhello")

    kernel.run("%unload_ext piano_jupyter")
    gone = kernel.run("%piano")
    end_store_process(tmp_path)
    left = sorted(path.name for path in (tmp_path / ".piano").iterdir())
    kernel.run("%load_ext piano_jupyter")

    assert "not found" in gone.stream
    assert left == [".gitignore", "backup", "piano.duckdb", "piano.duckdb.lock"]
    assert "hello" in kernel.run("%piano threads").text
    assert kernel.run("'piano' in globals()").text == "True"


def test_a_recording_is_replayed_exactly_without_a_server(kernel, kernel_of, stub_model):
    stub_model.says("Paris.")
    cells = ["%%piano\nCapital?", "%piano threads", "%piano sql SELECT id, inserted_at FROM messages ORDER BY seq"]

    recording = kernel.run("%piano record talk.jsonl")
    recorded = [kernel.run(cell).text for cell in cells]
    other = kernel_of(PIANO_BASE_URL="http://127.0.0.1:9/v1", PIANO_REPLAY="strict").load()
    other.run("%piano replay talk.jsonl")
    replayed = [other.run(cell).text for cell in cells]
    missing = other.run("%%piano\nSomething else?")

    assert recording.text == "recording to talk.jsonl"
    assert recorded[0] == "Paris."
    assert replayed == recorded
    assert "talk.jsonl has no answer to this request" in missing.stream
    assert "Something else?" in missing.stream


def test_interrupts_at_bad_moments_leave_a_kernel_that_works(kernel, stub_model):
    kernel.run("%piano")
    for pause in (0.01, 0.015, 0.02, 0.025, 0.03, 0.05):  # while the question is being sent
        stub_model.says(ServerReply("one two", held=True))
        started = kernel.start("%%piano\ncount")
        until(lambda: kernel.client.get_iopub_msg(timeout=30)["msg_type"] == "execute_input", "the cell did not begin")
        time.sleep(pause)
        kernel.manager.interrupt_kernel()
        cell = kernel.finish(started)
        stub_model.script.clear()

        assert cell.status == "error"
    stub_model.says("fine")

    assert kernel.run("%%piano --thread count\nagain").text == "fine"
    assert "running" not in kernel.run("%piano queue --all").text
    assert "queued" not in kernel.run("%piano queue --all").text


def test_an_interrupt_in_the_first_use_does_not_lock_the_kernel_out(kernel, stub_model, tmp_path):
    started = kernel.start("%%piano\nfirst")
    until((tmp_path / ".piano").exists, "the database was not opened")
    kernel.manager.interrupt_kernel()
    kernel.finish(started)
    stub_model.script.clear()
    stub_model.says("fine")

    assert kernel.run("%%piano\nagain").text.endswith("fine")


def test_a_waiting_cell_asks_for_an_approval_that_blocks_it(kernel_of, stub_model, tmp_path):
    kernel = kernel_of(stdin=True).load()
    stub_model.says(tool_call("bash", command="touch made"), "done", "second")
    kernel.run("%config PianoConfig.mode = 'full'")
    kernel.run("%piano agent Assistant --tools bash")
    kernel.run("%piano thread --new Other work\n%piano ask --no-wait go")

    cell = kernel.run("%piano thread --new Here\n%piano ask other", answers=["y"])

    assert cell.prompts[0].startswith("Assistant wants to run bash in the thread 'Other work' (")
    assert "):\n  command │ touch made\n[y]es / " in cell.prompts[0]
    assert cell.text == "second"
    assert (tmp_path / "made").exists()


def test_a_question_that_begins_with_an_agents_name_stays_complete(kernel, stub_model):
    kernel.run("%%piano\nAssistant means what?")

    assert stub_model.requests[0]["messages"][-1]["content"] == "Assistant means what?"


def test_a_tool_that_is_defined_again_replaces_the_old_one_with_one_notice(kernel, stub_model):
    define = "@tool\ndef price(item: str) -> int:\n    'Return a price.'\n    return {}"
    kernel.run("from piano_jupyter import tool")
    kernel.run(define.format(1) + "\nfirst = price")
    again = kernel.run(define.format(2))
    silent = kernel.run("price('tea')")
    kernel.run("%piano agent Assistant --tools price")
    stub_model.says(tool_call("price", item="tea"), "ok")

    assert "the tool 'price' replaces" in again.stream
    assert (silent.stream, silent.text) == ("", "2")
    assert "→ ok: 2]" in kernel.run("%%piano\ngo").text


@pytest.mark.parametrize("database", ["talk.duckdb", ":memory:"])
def test_stop_returns_from_a_cassette_to_the_own_threads_and_the_current_one(kernel, database):
    kernel.run(f"%config PianoConfig.database = {database!r}")
    kernel.run("%%piano\nmine")
    kernel.run("%piano thread --new other\n%piano thread mine")
    kernel.run("%piano record talk.jsonl")
    hidden = kernel.run("%piano threads").text
    kernel.run("from piano_jupyter import tool\n@tool\ndef price():\n    'Return a price.'")

    back = kernel.run("%piano record --stop")

    assert "mine" not in hidden
    assert back.text == "recording saved in talk.jsonl; back to your threads"
    assert kernel.run("%piano replay talk.jsonl\n%piano replay --stop").text == "back to your threads"
    assert kernel.run("%piano thread").text.startswith("current thread: mine (")
    assert "price" in kernel.run("%piano tools").text
    assert "nothing is being recorded" in kernel.run("%piano replay --stop").stream


def test_a_call_that_asyncio_run_refuses_is_told_how_it_is_written(kernel):
    refused = kernel.run("import asyncio\nasyncio.run(piano.ask('hi'))")
    other = kernel.run("call = piano.ask('hi')\n1 / 0")

    assert refused.stream.endswith("\nin a notebook, write: await piano.ask(...)\n")
    assert "in a notebook, write" not in other.stream
    assert kernel.run("(await call).content").text == "'You said: hi'"


def test_a_recording_is_ended_by_its_own_stop_and_not_replaced(kernel):
    kernel.run("%piano record talk.jsonl")

    again = kernel.run("%piano record other.jsonl")
    other = kernel.run("%piano replay --stop")
    kernel.run("%piano ask hello")
    kernel.run("%piano record --stop")

    assert again.stream == "PianoError: already recording to talk.jsonl: %piano record --stop first\n"
    assert other.stream == "PianoError: nothing is replayed; %piano record --stop ends the recording\n"
    assert kernel.run("%piano replay talk.jsonl\n%piano ask hello").text.endswith("You said: hello")


def test_the_properties_of_the_kernel_s_piano_can_be_read_and_not_set(kernel):
    kernel.run("%piano ask hello")

    assert kernel.run("piano.thread.title, piano.trusted, piano.stopped").text == "('hello', True, False)"
    assert "piano.thread cannot be set in a cell; %piano thread TITLE" in kernel.run("piano.thread = None").stream
    assert "has no verb 'fly'; dir(piano) lists them" in kernel.run("piano.fly").stream


def test_a_file_that_is_not_a_cassette_is_not_overwritten(kernel, tmp_path):
    (tmp_path / "precious.csv").write_text("1,2")

    refused = kernel.run("%piano record precious.csv")
    kept = (tmp_path / "precious.csv").read_text()
    forced = kernel.run("%piano record precious.csv --force")

    assert "precious.csv exists" in refused.stream
    assert kept == "1,2"
    assert forced.text == "recording to precious.csv"
    assert "piano_cassette" in (tmp_path / "precious.csv").read_text()


def test_a_sentence_that_begins_with_ask_or_send_is_sent_verbatim(kernel, stub_model):
    kernel.run("%%piano send me a card\nplease")
    kernel.run("%%piano ask\nme")

    assert [each["messages"][-1]["content"] for each in stub_model.requests] == ["send me a card\nplease", "me"]


def test_an_exported_cell_asks_the_same_question_with_its_braces(kernel, stub_model, tmp_path):
    said = "what is {{nope}}, {{{nope}}} and {{ {{{{nope}}}} }}?"
    kernel.run(f"nope = {said!r}")
    kernel.run("%%piano\n{{nope}}")
    kernel.run("%piano export talk.ipynb")
    cell = json.loads((tmp_path / "talk.ipynb").read_text())["cells"][-1]

    kernel.run("del nope")
    again = kernel.run("".join(cell["source"]))

    assert again.status == "ok"
    assert [each["messages"][-1]["content"] for each in stub_model.requests] == [said, said]


INTERRUPTED = """
from piano_jupyter.jupyter import loop
from piano_jupyter.jupyter.cell import waiting
begin, live = loop.LoopTask.begin, waiting.LiveCell

def interrupt(*args, **kwargs):
    loop.LoopTask.begin, waiting.LiveCell = begin, live
    {first}
    raise KeyboardInterrupt

{place} = interrupt
"""


@pytest.mark.parametrize(
    ("place", "first"),
    [("loop.LoopTask.begin", "pass"), ("loop.LoopTask.begin", "begin(*args)"), ("waiting.LiveCell", "pass")],
)
def test_an_interrupt_while_a_question_is_sent_leaves_no_job_behind(kernel, stub_model, place, first):
    stub_model.says(ServerReply("one two", held=True))
    kernel.run("%piano")
    kernel.run(INTERRUPTED.format(place=place, first=first))

    cell = kernel.run("%%piano\ncount")
    stub_model.script.clear()

    assert cell.stream in {  # it depends on how far the loop has come
        "AnswerFailedError: interrupted; nothing was sent\n",
        "AnswerFailedError: interrupted; the job was cancelled; its unfinished answer is not kept\n",
    }
    jobs = kernel.run("%piano queue --all").text
    assert "running" not in jobs
    assert "queued" not in jobs
    assert kernel.run("%%piano\nagain").text.startswith("You said: ")


def test_an_interrupt_while_a_model_is_loaded_is_one_sentence(kernel, stub_model):
    kernel.run("%piano")
    kernel.run(INTERRUPTED.format(place="waiting.LiveCell", first="pass"))

    cell = kernel.run("%piano models")

    assert cell.stream == "PianoError: interrupted; the server may still finish what it has started\n"
    assert "qwen3:32b" in kernel.run("%piano models").text


def test_config_does_not_show_the_key(kernel):
    kernel.run("%config PianoConfig.api_key = 'sk-secret'")

    assert "sk-secret" not in kernel.run("%config PianoConfig").stream
