"""The sub-commands that branch, export, look and steer, in a real kernel; and records that show themselves."""

import json
import re

import pytest

from piano_jupyter.testing import ServerReply, tool_call


def ids(kernel):
    """Return the names of the current thread's messages, in order."""
    told = kernel.run("%piano history --ids").text.split("\n\n")[1:]
    return [line.partition("[")[2].partition("]")[0] for line in told if "[" in line.partition(":")[0]]


def test_an_agent_is_created_from_a_cell_and_its_options_reach_the_model(kernel, stub_model):
    kernel.run("%%piano agent ada --model small --temperature 0.2 --option seed=7\nYou are Ada.\nBe kind.")
    kernel.run("%piano agent ada --option stop=END --option seed=null")
    shown = kernel.run("%piano agent ada")

    kernel.run("%piano ask @ada hi")

    asked = stub_model.requests[0]
    assert asked["messages"][0] == {"role": "system", "content": "You are Ada.\nBe kind."}
    assert (asked["temperature"], asked["stop"], "seed" in asked) == (0.2, "END", False)
    assert shown.text.splitlines()[0] == "name           @ada"
    assert "options        stop=END, temperature=0.2" in shown.text
    assert "text/html" in shown.shown[0]


def test_an_agents_prompt_comes_from_a_file_and_its_iterations_are_limited(kernel, stub_model, tmp_path):
    (tmp_path / "ada.md").write_text("You are Ada.\n")
    stub_model.answer = lambda _: tool_call("read_file", path="ada.md")

    kernel.run("%piano agent ada --system-file ada.md --tools read_file --max-iterations 2")
    cell = kernel.run("%piano ask @ada go round")

    assert stub_model.requests[0]["messages"][0]["content"] == "You are Ada."
    assert "stopped after 2 rounds of tool calls" in cell.stream


def test_an_edit_asks_again_on_a_new_branch_and_history_shows_both(kernel, stub_model):
    stub_model.says("Paris.", "Madrid.")
    kernel.run("%piano ask Capital of France?")
    question, _ = ids(kernel)

    cell = kernel.run(f"%%piano edit {question}\nCapital of {{{{country}}}}?")
    kernel.run("country = 'Spain'")
    edited = kernel.run(f"%%piano edit {question}\nCapital of {{{{country}}}}?")
    now = kernel.run("%piano history --ids").text
    before = kernel.run(f"%piano history --at {question}").text

    assert "no variable named 'country'" in cell.stream
    assert edited.text == "Madrid."
    assert "]: Capital of Spain?\n  ⇄ 2 of 2; the others are " + question in now
    assert "Paris." not in now
    assert "You: Capital of France?\n  ⇄ 1 of 2\n\nAssistant: Paris." in before
    assert "%piano history --ids names the others" in before


def test_a_question_is_regenerated_and_forked(kernel, stub_model):
    stub_model.says("one", "two", "three")
    kernel.run("%piano ask Say something?")

    again = kernel.run("%piano regenerate")
    answer = ids(kernel)[1]
    forked = kernel.run(f'%piano fork {answer} --title "Another way"')
    kernel.run("%piano ask and then?")

    assert again.text == "two"
    assert forked.text == "current thread: Another way"
    told = [message["content"] for message in stub_model.requests[2]["messages"] if message["role"] != "system"]
    assert told == ["Say something?", "two", "and then?"]
    assert "and then?" not in kernel.run("%piano history Say something?").text


def test_a_thread_is_exported_and_imported_again(kernel, stub_model, tmp_path):
    stub_model.says("**Paris**.")
    kernel.run("%piano ask Capital?")

    for name in ("talk.md", "talk.html", "talk.ipynb", "talk.jsonl"):
        assert kernel.run(f"%piano export {name}").text == f"exported 'Capital?' to {name}"
    kernel.run("%piano export other.txt --format md --thread Capital?")
    read = kernel.run('%piano import talk.jsonl --title "An old talk"')

    assert "**Paris**." in (tmp_path / "talk.md").read_text()
    assert (tmp_path / "other.txt").read_text() == (tmp_path / "talk.md").read_text()
    assert "<strong>Paris</strong>" in (tmp_path / "talk.html").read_text()
    assert json.loads((tmp_path / "talk.ipynb").read_text())["nbformat"] == 4
    assert read.text == "current thread: An old talk"
    assert kernel.run("%piano history").text == "An old talk\n\nYou: Capital?\n\nAssistant: **Paris**."


def test_threads_are_listed_with_their_messages_and_last_use_in_local_time(kernel_of, stub_model):
    kernel = kernel_of(TZ="Asia/Kolkata").load()  # half an hour off: no time in it is taken for UTC
    kernel.run("%piano thread --new Empty\n%piano thread --new Talk\n%piano ask one\n%piano ask two")
    times = "SELECT strftime(max(inserted_at) + INTERVAL '330 minutes', '%H:%M') AS t FROM {}"
    used, opened = (
        kernel.run(f"%piano sql {times.format(name)}").text.splitlines()[1] for name in ("messages", "threads")
    )

    header, talk, empty = kernel.run("%piano threads").text.splitlines()

    assert header.split() == ["id", "title", "status", "messages", "last", "used", "opened"]
    assert talk.split()[1:4] == ["Talk", "active", "4"]
    assert (talk.split()[5], talk.split()[7]) == (used, opened)
    assert empty.split()[1:4] == ["Empty", "active", "0"]


def test_an_existing_file_is_kept_without_force(kernel, tmp_path):
    (tmp_path / "talk.md").write_text("mine")
    kernel.run("%piano ask hello")

    refused = kernel.run("%piano export talk.md")
    kept = (tmp_path / "talk.md").read_text()
    kernel.run("%piano export talk.md --force")

    assert refused.stream == "PianoError: talk.md exists; --force replaces it\n"
    assert kept == "mine"
    assert "hello" in (tmp_path / "talk.md").read_text()


def test_a_file_name_that_is_not_ascii_works_under_an_ascii_locale(kernel_of, stub_model, tmp_path):
    kernel = kernel_of(LC_ALL="C", PYTHONUTF8="0").load()
    assert kernel.run("import sys; print(sys.getfilesystemencoding())").stream == "ascii\n"
    kernel.run("%piano ask h\xe9llo")

    exported = kernel.run("%piano export Pr\xfcfung.jsonl")
    again = kernel.run("%piano export Pr\xfcfung.jsonl")
    read = kernel.run("%piano import Pr\xfcfung.jsonl --title Wieder")
    recorded = kernel.run("%piano record Aufnahme-\xfc.jsonl")
    replayed = kernel.run("%piano replay Aufnahme-\xfc.jsonl")

    assert exported.text == "exported 'h\xe9llo' to Pr\xfcfung.jsonl"
    assert "h\xe9llo" in (tmp_path / "Pr\xfcfung.jsonl").read_text(encoding="utf-8")
    assert again.stream == "PianoError: Pr\xfcfung.jsonl exists; --force replaces it\n"
    assert read.text == "current thread: Wieder"
    assert recorded.text == "recording to Aufnahme-\xfc.jsonl"
    assert replayed.text == "replaying Aufnahme-\xfc.jsonl"


def test_a_message_sent_while_jobs_are_stopped_waits_for_start(kernel, stub_model):
    kernel.run("%piano stop")

    sent = kernel.run("%%piano send\nhello\nthere")
    status = kernel.run("%piano").text
    asked = list(stub_model.requests)
    kernel.run("%piano start")

    assert "status  queued" in sent.text
    assert "jobs    1 queued; stopped; %piano start resumes" in status
    assert asked == []
    assert kernel.run("%piano wait").text == "You said: hello\nthere"


STOPPED = "stopped; %piano start resumes"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("%piano ask hi", f"{STOPPED}, and %piano send queues a question"),
        ("%%piano\nhi", f"{STOPPED}, and %piano send queues a question"),
        ("%piano regenerate", STOPPED),
    ],
)
def test_a_cell_that_would_wait_while_jobs_are_stopped_says_so_and_sends_nothing(kernel, stub_model, code, says):
    kernel.run("%piano ask hello\n%piano stop")

    cell = kernel.run(code)

    assert cell.stream == f"PianoError: {says}\n"
    assert kernel.run("len(await piano.jobs())").text == "1"


def test_an_edit_while_jobs_are_stopped_is_refused(kernel, stub_model):
    kernel.run("%piano ask hello\n%piano stop")

    cell = kernel.run(f"%piano edit {ids(kernel)[0]} bye")

    assert cell.stream == f"PianoError: {STOPPED}\n"
    assert kernel.run("len(await piano.jobs())").text == "1"


def test_cancel_names_only_jobs_that_can_be_cancelled(kernel, stub_model):
    kernel.run("%piano ask hello\n%piano stop\njob = %piano send hi")

    refused = kernel.run("%piano cancel abc")

    assert refused.stream == f"NotFoundError: no job named 'abc'; known: {kernel.run('print(job.id.hex[-6:])').stream}"


def test_a_model_that_is_not_served_is_told_with_the_agent_s_name(kernel, stub_model):
    kernel.run("%piano agent ada --model nope")
    stub_model.says(ServerReply("no router for requested model", status=404))

    refused = kernel.run("%piano ask @ada hi").stream

    assert refused.endswith("known: qwen3:32b. Give the agent one of them: %piano agent ada --model M\n")


def test_a_queued_job_says_that_jobs_are_stopped_and_a_finished_one_can_be_waited_for(kernel, stub_model):
    kernel.run("%piano ask hello\n%piano stop")

    done = kernel.run("%piano wait")
    kernel.run("%piano send hi")
    queued = kernel.run("%piano wait")
    table = kernel.run("%piano queue").text

    assert done.text == "You said: hello"
    assert re.fullmatch(rf"PianoError: job \w{{6}} waits: {re.escape(STOPPED)}\n", queued.stream)
    assert f"waits: {STOPPED}" in table


def test_the_embedded_model_answers_under_its_own_name(kernel_of, closed_port, llama_cpp):
    kernel = kernel_of(PIANO_BASE_URL=closed_port, PIANO_DEFAULT_MODEL="qwen3:32b").load()

    kernel.run("%piano stop\n%piano send hi")
    shown = [kernel.run(each).text for each in ("%piano", "%piano agents", "%piano agent Assistant")]
    queued = kernel.run("%piano queue").text

    assert all("SmolLM2-135M-Instruct (answers for qwen3:32b)" in each for each in shown)
    assert "the embedded model (answers for qwen3:32b)" in queued


def test_raw_shows_the_answer_as_its_plain_text(kernel, stub_model):
    stub_model.says("**bold**")

    cell = kernel.run("%%piano --raw\nhi")

    assert cell.shown == [{"text/plain": "**bold**"}]


def test_a_cell_may_be_a_query_and_other_first_lines_are_text(kernel, stub_model):
    kernel.run("%%piano threads\nare what?")

    rows = kernel.run("%%piano sql\nSELECT content\nFROM messages\nORDER BY seq LIMIT 1")

    assert rows.text == "content\nthreads⏎are what?"


def test_an_answer_that_is_shown_later_has_its_tool_calls(kernel, stub_model):
    kernel.run("from piano_jupyter import tool")
    kernel.run("@tool\ndef price(item: str) -> int:\n    'Return a price.'\n    return 3")
    kernel.run("%piano agent Assistant --tools price")
    stub_model.says(tool_call("price", item="tea"), "It is 3.\n```python\nx = 3\n```")

    at_once = kernel.run("answer = %piano ask tea?")
    later = kernel.run("answer")

    assert later.shown == at_once.shown
    assert later.text.startswith("[price(item='tea') → ok: 3]\nIt is 3.")
    assert "<details>" in later.shown[0]["text/html"]
    assert kernel.run("print(answer.content, len(answer.usage))").stream.startswith("It is 3.")


@pytest.mark.parametrize(
    ("code", "plain"),
    [
        ("(await piano.threads())[0]", "thread  hello\nstatus  active"),
        ("(await piano.agents())[0]", "name           @Assistant"),
        ("(await piano.jobs())[0]", "status  done\nagent   @Assistant"),
        ("(await piano.models())[0]", "model  qwen3:32b\nstate  loaded"),
        ("await piano.status()", "thread     hello\njobs       nothing runs or waits\nserver     http"),
        ("await piano.sql('SELECT 1 AS n')", "n\n1"),
    ],
)
def test_each_record_shows_itself_as_text_and_html(seen_kernel, code, plain):
    cell = seen_kernel.run(code)

    assert plain in cell.text
    assert "<table" in cell.shown[0]["text/html"]


@pytest.mark.parametrize(
    ("code", "plain"),
    [
        ("await piano.threads()", "[<Thread 'hello'>]"),
        ("await piano.agents()", "[<Agent @Assistant, qwen3:32b>]"),
        ("await piano.models()", "[<Model qwen3:32b, loaded>]"),
        ("[await piano.status()]", "[<Status http"),
        ("(await piano.tools())[:1]", "[<Tool add_cell>]"),
        ("(await piano.skills())[:1]", "[<Skill explain-simply>]"),
        ("await piano.messages((await piano.threads())[0], 1)", "[<Message assistant: You said: hello>]"),
        ("[job for job in await piano.jobs()]", ", done>]"),
    ],
)
def test_each_record_in_a_list_is_a_short_line(seen_kernel, code, plain):
    assert plain in seen_kernel.run(code).text


def test_send_returns_a_job_or_a_list_of_jobs(kernel, stub_model):
    kernel.run("%piano agent ada --model small")

    kernel.run("one = %piano send hi\nmore = %piano ask --no-wait @ada @Assistant hi")
    kinds = kernel.run("print(type(one).__name__, [type(job).__name__ for job in more])")

    assert kinds.stream == "Job ['Job', 'Job']\n"
    assert kernel.run("print((await piano.wait(one)).content)").stream == "You said: hi\n"
    assert kernel.run("more").text.splitlines()[0].split() == ["id", "status", "agent", "model", "attempt", "reason"]


def test_without_a_current_thread_the_message_names_the_way_to_one(kernel_of, stub_model, tmp_path):
    says = "no thread is open; %piano thread TITLE opens yours"
    kernel_of(JPY_SESSION_NAME=str(tmp_path / "other.ipynb")).load().run("%piano ask hello")

    kernel = kernel_of().load()

    assert says in kernel.run("%piano").text
    assert kernel.run("%piano thread").text == says
    assert kernel.run("%piano history").text.startswith("hello (your newest thread; none is open)\n\nYou: hello")
    assert kernel.run("%piano export talk.md").text == "exported 'hello' to talk.md"
    assert kernel.run("print(piano.thread)").stream == "None\n", "looking opens none"
    kernel.run("%piano thread --new other\n%piano thread hello")
    assert kernel.run("piano.thread").text.startswith("thread  hello")


def test_a_question_without_an_answer_says_why_in_the_history(kernel, stub_model):
    kernel.run("%piano agent ada --model small")
    stub_model.says(ServerReply('{"error": {"message": "too hot"}}', status=400))
    kernel.run("%piano ask hello")
    kernel.run("%piano stop\njob = %piano send @ada @Assistant again\nawait piano.cancel(job[0])\n%piano start")
    kernel.run("%piano wait")

    hello, again = kernel.run("%piano history").text.split("\n\n")[1:3]

    assert re.fullmatch(r"You: hello\n  \(failed: .*too hot.*\)", hello)
    assert again == "You: again\n  (ada: cancelled)"


def test_a_message_outlives_its_chat(kernel, stub_model):
    kernel.run("answer = %piano ask hello")
    kernel.run("%piano record talk.jsonl")

    assert kernel.run("answer").text == "You said: hello"
