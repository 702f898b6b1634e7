"""How records look in a cell: plain text and HTML."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from piano_jupyter import events
from piano_jupyter.jupyter.render.cards import (
    agent_card,
    agents_table,
    hits_table,
    job_card,
    model_card,
    models_line,
    thread_card,
)
from piano_jupyter.jupyter.render.event_lines import event_line
from piano_jupyter.jupyter.render.record_lines import record_line
from piano_jupyter.jupyter.render.tables import (
    MAX_ROWS,
    MAX_TEXT_CHARS,
    HighlightedText,
    RecordCard,
    RecordTable,
    html_table,
    rows_plain,
)
from piano_jupyter.jupyter.render.transcript import (
    BRANCH_HINT,
    AnswerGroup,
    Transcript,
    answer_bundle,
    call_line,
    message_html,
)
from piano_jupyter.jupyter.render.usage_table import UsageStatistics
from piano_jupyter.records import (
    Agent,
    CallStatus,
    Hit,
    Job,
    JobStatus,
    Message,
    Model,
    ModelState,
    Rows,
    Thread,
    ToolCall,
)
from piano_jupyter.tool import Tool

NOW = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
ADA = Agent(
    id=UUID(int=1),
    name="ada",
    model="small",
    inserted_at=NOW,
    system_prompt="You are Ada.\nKind & brief.",
    enabled_tools=("bash", "read_file"),
    options={"temperature": 0.2, "seed": 7},
    max_iterations=4,
)
TALK = Thread(id=UUID(int=2), title="Talk <b>", inserted_at=NOW, primary_agent_id=ADA.id)
NAMES = {ADA.id: "ada", TALK.id: TALK.title}
EVIL = "<script>alert(1)</script>"


def said(number, text, role="user", **fields):
    return Message(id=UUID(int=number), thread_id=TALK.id, role=role, content=text, inserted_at=NOW, **fields)


def call(result="3\nand more", **fields):
    given = {"name": "price", "arguments": {"of": EVIL}, "status": CallStatus.OK, "message_id": UUID(int=11)}
    return ToolCall(id=UUID(int=8), started_at=NOW, result=result, **given | fields)


def test_an_answer_in_json_is_pretty_printed():
    answer = said(1, '{"name": "<b>", "age": 36}', "assistant", agent_id=ADA.id)

    bundle = answer_bundle(answer, "ada")

    assert bundle["text/plain"] == '{\n  "name": "<b>",\n  "age": 36\n}'
    html = re.sub("</?span[^>]*>", "", bundle["text/html"])
    assert '>{\n  "name": "&lt;b&gt;",\n  "age": 36\n}\n</code></pre>' in html
    assert answer_bundle(answer, "ada", raw=True) == {"text/plain": answer.content}
    assert '"age": 36' in repr(Transcript("Talk", [answer], [], NAMES))
    assert "<pre>" not in message_html(replace(answer, role="user", agent_id=None), "You")


FRAME = "    item  price\n0  apple    1.5\n1   kiwi   20.0"


@pytest.mark.parametrize("role", ["user", "assistant"])
@pytest.mark.parametrize("text", [FRAME, f"What is this?\n\n{FRAME}\n\nThanks."])
def test_a_data_frame_in_a_message_keeps_its_columns(role, text):
    talk = Transcript("Talk", [said(1, text, role)], [], NAMES)

    assert FRAME in repr(talk).split("\n\n") or f":\n{FRAME}" in repr(talk)
    assert FRAME in re.sub("</?code>", "", talk._repr_html_()).partition("<pre")[2]


def test_an_answer_shows_folded_calls_its_text_and_its_cost():
    usage = {
        "model": "small", "prompt_tokens": 1400, "cached_tokens": 1300, "completion_tokens": 56,
        "tokens_per_second": 23.5, "first_token_s": 12.42, "load_s": 11.0, "cut": True,
    }  # fmt: skip
    message = said(11, f"It is **3**. {EVIL}", "assistant", agent_id=ADA.id, usage=usage)

    bundle = answer_bundle(message, "ada", [call()])

    assert bundle["text/plain"].startswith(f"[price(of='{EVIL}') → ok: 3 ⏎ and more]\nIt is **3**.")
    assert "<details><summary><code>price(" in bundle["text/html"]
    assert "<strong>3</strong>" in bundle["text/html"]
    assert "<script>" not in bundle["text/html"]
    assert (
        "ada · small · 1,400 tokens read (1,300 cached) · 56 written · 23.5 tokens/s · first after 12.4 s"
        " · loading 11.0 s · cut off: it reached the limit of its length" in bundle["text/html"]
    )


def test_an_answer_says_that_the_server_withheld_its_end():
    message = said(11, "One could", "assistant", agent_id=ADA.id, usage={"withheld": True})

    assert "ada · cut off: the server withheld the rest" in answer_bundle(message, "ada")["text/html"]


def test_an_answer_says_that_the_model_repeated_itself():
    message = said(11, "It is so.", "assistant", agent_id=ADA.id, usage={"looped": True})

    assert "ada · stopped: the model repeated itself" in answer_bundle(message, "ada")["text/html"]


def test_an_answer_shows_the_cost_of_all_rounds_of_its_turn():
    turn = {"rounds": 3, "prompt_tokens": 4200, "cached_tokens": 2600, "completion_tokens": 90}
    message = said(11, "3", "assistant", agent_id=ADA.id, usage={"completion_tokens": 6, "turn": turn})

    html = answer_bundle(message, "ada")["text/html"]

    assert "ada · 6 written · 3 rounds in all: 4,200 tokens read (2,600 cached), 90 written" in html


def test_reasoning_is_folded_above_its_answer_and_not_in_the_plain_text():
    message = said(11, "3", "assistant", agent_id=ADA.id, reasoning=f"hm {EVIL}" + "x" * 30_000)

    bundle = answer_bundle(message, "ada")

    head, _, answer = bundle["text/html"].partition("</details>")
    assert "<summary>Reasoning</summary>" in head
    assert "hm &lt;" in head
    assert "more characters" in head
    assert len(head) < 21_000
    assert "<p>3</p>" in answer
    assert bundle["text/plain"] == "3"


def test_an_answer_of_unknown_cost_has_only_its_name():
    assert message_html(said(11, "hi", "assistant"), "ada").endswith(">ada</div></div>")


def test_a_raw_answer_is_its_text_alone_and_one_of_several_is_headed():
    message = said(11, "**3**", "assistant")

    assert answer_bundle(message, "ada", [call()], raw=True) == {"text/plain": "**3**"}
    assert answer_bundle(message, "ada", raw=True, headed=True) == {"text/plain": "ada:\n**3**"}
    headed = answer_bundle(message, "ada", headed=True)
    assert headed["text/plain"] == "ada:\n**3**"
    assert headed["text/html"].startswith('<div class="piano-answer tex2jax_ignore mathjax_ignore"><div><strong>ada')
    assert headed["text/html"].count("ada") == 1


@pytest.mark.parametrize("raw", [True, False])
def test_g6_a_cell_shows_the_start_of_a_very_long_text_and_how_much_follows(raw):
    answer, asked = said(1, "a < b " * 200_000, "assistant", agent_id=ADA.id), said(2, "c < d " * 200_000)

    for message in (answer, asked):
        bundle = answer_bundle(message, "ada", raw=raw)
        assert all(len(each) < 2 * MAX_TEXT_CHARS for each in bundle.values())
        assert "more characters" in bundle["text/plain"]


def test_a_transcript_marks_branches_and_says_how_to_use_them():
    messages = [
        said(0xABC001, "Capital?"),
        said(0xABC002, "Paris.", "assistant", agent_id=ADA.id),
        said(0xABC003, "note", "system"),
    ]
    others = {messages[1].id: [UUID(int=0xABC009), messages[1].id, UUID(int=0xABC00A)]}

    transcript = Transcript("Talk", messages, [], NAMES, others)

    plain = ["Talk", "You: Capital?", "ada: Paris.\n  ⇄ 2 of 3", "Note: note", BRANCH_HINT]
    assert repr(transcript) == "\n\n".join(plain)
    assert "⇄ 2 of 3</div>" in transcript._repr_html_()
    assert '<div style="margin-bottom:1em"><strong>Talk</strong></div>' in transcript._repr_html_()
    assert BRANCH_HINT in transcript._repr_html_()
    named = repr(Transcript("Talk", messages, [], NAMES, others, ids=True))
    assert "ada [abc002]: Paris.\n  ⇄ 2 of 3; the others are abc009, abc00a\n" in named


def test_the_messages_of_one_turn_have_one_name_and_each_call_follows_its_message():
    job, cost = UUID(int=99), {"model": "m"}
    looks = said(0xABC002, "Let me see.", "assistant", agent_id=ADA.id, job_id=job, usage=cost)
    looks_again = said(0xABC003, "", "assistant", agent_id=ADA.id, job_id=job, usage=cost)
    answer = said(0xABC004, "Three.", "assistant", agent_id=ADA.id, job_id=job, usage=cost)
    calls = [call("3", message_id=looks.id, arguments={}), call("a  b\nc", message_id=looks_again.id, arguments={})]

    transcript = Transcript("Talk", [said(0xABC001, "How many?"), looks, looks_again, answer], calls, NAMES)

    assert repr(transcript).splitlines()[2:] == [
        "You: How many?",
        "",
        "ada: Let me see.",
        "  [price() → ok: 3]",
        "  [price() → ok: a b ⏎ c]",
        "Three.",
    ]
    html = transcript._repr_html_()
    assert (html.count("<strong>ada</strong>"), html.count(">m</div>")) == (1, 1)
    assert html.index("Let me see.") < html.index("<pre>3</pre>") < html.index("<pre>a  b") < html.index("Three.")


def test_a_line_shows_the_start_of_a_long_result():
    table = "max_temp  day\n19        6"
    many = "\n".join(f"line {number}" for number in range(400))

    assert call_line(call(table, arguments={})) == "[price() → ok: max_temp day ⏎ 19 6]"
    assert call_line(call(many, arguments={})).endswith("⏎ line 10 ⏎ …]")
    denied = call("denied: the user did not allow this call", arguments={}, status=CallStatus.FAILED)
    assert call_line(denied) == "[price() → denied: the user did not allow this call]"


def test_floats_are_shown_without_rounding_errors():
    rows = Rows(("sum", "mean"), ((0.1 + 0.2, 11.0),))

    assert rows_plain(rows).splitlines()[1] == "0.3  11.0"


def test_the_empty_lines_at_the_end_of_an_answer_are_not_shown():
    fenced = said(0xABC001, "```python\n1\n```\n\n", "assistant", agent_id=ADA.id)

    assert repr(Transcript("Talk", [fenced, fenced], [], NAMES)).count("\n\n\n") == 0
    assert answer_bundle(fenced, "ada")["text/plain"] == "```python\n1\n```"


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (said(1, "hello\n" * 30, "assistant"), "<Message assistant: " + "hello " * 9 + "hello…>"),
        (TALK, "<Thread 'Talk <b>'>"),
        (replace(TALK, status="archived"), "<Thread 'Talk <b>', archived>"),
        (ADA, "<Agent @ada, small>"),
        (Model(name="small"), "<Model small, loaded>"),
        (call(arguments={"of": "tea"}), "<ToolCall price(of='tea'), ok>"),
        (Hit(thread=TALK, message=None, excerpt="Talk", marks=(), at=0, score=1.0), "<Hit in 'Talk <b>': Talk>"),
        (Tool(name="length", description="Count.", parameters={}, function=len), "<Tool length>"),
    ],
)
def test_a_record_in_a_list_is_one_line_without_ids_and_times(record, line):
    assert record_line(record) == line


def test_statistics_have_short_heads_and_no_empty_columns():
    columns = ("agent", "answers", "prompt_tokens", "cached_tokens", "tokens_per_second", "first_token_s")
    rows = Rows(columns, (("ada", 2, 123456, None, 23.456, 0.0105), ("bob", 1, None, None, None, 1.0)))

    figures = UsageStatistics(rows)

    assert repr(figures).splitlines() == [
        "agent  answers  prompt   tok/s  first token (s)",
        "ada    2        123,456  23.46  0.01",
        "bob    1                        1.00",
    ]
    assert (figures[0], figures.rows) == (rows[0], rows)
    assert "None" not in figures._repr_html_()
    assert repr(UsageStatistics(Rows(columns, ()))) == "no answers yet"


def test_a_transcript_without_branches_has_no_ids_unless_requested():
    messages = [said(0xABC001, "Capital?")]

    assert repr(Transcript("Talk", messages, [], NAMES)) == "Talk\n\nYou: Capital?"
    assert repr(Transcript("Talk", messages, [], NAMES, ids=True)) == "Talk\n\nYou [abc001]: Capital?"
    assert "You [abc001]" in Transcript("Talk", messages, [], NAMES, ids=True)._repr_html_()
    assert repr(Transcript("Talk", [], [], NAMES)) == "Talk: nothing said yet"


def test_several_answers_are_a_sequence_of_messages():
    answers = AnswerGroup([("ada", said(1, "one\n", "assistant"), [call()]), ("bob", said(2, "two", "assistant"), [])])

    assert (len(answers), answers[1].content, [each.content for each in answers]) == (2, "two", ["one\n", "two"])
    assert repr(answers) == "ada:\none\n\nbob:\ntwo"


def test_cards_show_all_that_is_set_and_leave_out_the_rest():
    failed = Job(
        id=UUID(int=0xABC), thread_id=TALK.id, message_id=UUID(int=3), agent_id=ADA.id, model="small",
        inserted_at=NOW, status=JobStatus.FAILED, reason="it broke",
    )  # fmt: skip
    fork = Thread(id=UUID(int=9), title="Fork", inserted_at=NOW, forked_from_thread_id=TALK.id)

    assert repr(agent_card(ADA)).splitlines() == [
        "name           @ada",
        "model          small",
        "system prompt  You are Ada.",
        "               Kind & brief.",
        "tools          bash, read_file",
        "options        seed=7, temperature=0.2",
        "rounds         at most 4",
    ]
    assert "You are Ada.<br>Kind &amp; brief." in agent_card(ADA)._repr_html_()
    assert repr(thread_card(fork, NAMES)) == "thread       Fork\nstatus       active\nforked from  Talk <b>"
    assert repr(thread_card(TALK, NAMES)).endswith("answers  @ada")
    assert repr(job_card(failed, NAMES)).split() == [
        "job", "000abc", "status", "failed", "agent", "@ada", "model", "small", "reason", "it", "broke",
    ]  # fmt: skip
    model = Model(name="small", state=ModelState.LOADING, context=32768, aliases=("s",))
    assert repr(model_card(model)) == "model    small\nstate    loading\ncontext  32,768 tokens\naliases  s"


def test_an_agent_names_the_model_that_answers_for_its_own():
    shown = repr(agent_card(ADA, "m-q4.gguf")), repr(agents_table([ADA], lambda model: f"{model}-q4.gguf"))

    assert f"m-q4.gguf (answers for {ADA.model})" in shown[0]
    assert f"{ADA.model}-q4.gguf (answers for {ADA.model})" in shown[1]


def test_the_models_in_one_line_are_those_that_are_loaded():
    loaded, idle = Model(name="small", context=8192), Model(name="large", state=ModelState.UNLOADED)

    assert models_line([loaded, idle, idle]) == "small loaded 8,192 tokens; 2 more, not loaded"
    assert models_line([idle]) == "1, none loaded"
    assert models_line([]) == ""


def test_search_results_are_highlighted_with_their_authors():
    message = said(0xABC, "the capital city", "assistant", agent_id=ADA.id)
    hits = [
        Hit(thread=TALK, message=message, excerpt="the capital <i>", marks=((4, 11),), at=4, score=2.0),
        Hit(thread=TALK, message=None, excerpt="Talk <b>", marks=((0, 4),), at=0, score=1.0),
    ]

    table = hits_table(hits, NAMES)

    assert repr(table).splitlines()[1:] == [
        "Talk <b>  ada      the *capital* <i>  000abc",
        "Talk <b>  (title)  *Talk* <b>",
    ]
    assert "the <mark " in table._repr_html_()
    assert ">capital</mark> &lt;i&gt;" in table._repr_html_()
    assert repr(hits_table([], NAMES)) == "found nothing"


def test_highlights_may_be_anywhere():
    assert str(HighlightedText("abc", [(0, 1), (1, 3)])) == "*a**bc*"
    assert str(HighlightedText("abc", [])) == "abc"


def test_long_tables_end_with_the_number_of_rows_left_out():
    rows = Rows(("n",), tuple((number,) for number in range(MAX_ROWS + 1500)))

    assert len(rows_plain(rows).splitlines()) == MAX_ROWS + 2
    assert rows_plain(rows).endswith("… and 1,500 more rows")
    assert html_table(rows.columns, rows).endswith("… and 1,500 more rows</div>")
    assert rows_plain(Rows(("n",), ())) == "no rows"


def test_a_listing_is_a_sequence_and_escapes_what_it_shows():
    listing = RecordTable([EVIL, "b\nc"], "none", text=lambda each: each)

    assert (listing[0], len(listing)) == (EVIL, 2)
    assert "<script>" not in listing._repr_html_()
    assert "b<br>c" in listing._repr_html_()
    assert "b⏎c" in repr(listing)
    assert (repr(RecordTable([], "none")), RecordTable([], "none")._repr_html_()) == ("none", "<p>none</p>")
    assert repr(RecordCard()) == ""


JOB = Job(
    id=UUID(int=0xABC), thread_id=TALK.id, message_id=UUID(int=3), agent_id=ADA.id, model="small", inserted_at=NOW
)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (events.ThreadOpened(thread=TALK), "Talk <b>"),
        (events.ThreadBranched(message_id=UUID(int=0xABC)), "continues from message 000abc"),
        (events.AgentAdded(agent=ADA), "@ada, small"),
        (events.MessageAdded(message=said(1, "hello\nthere")), "You: hello there"),
        (events.Answered(message=said(1, "x" * 200, "assistant", agent_id=ADA.id)), "ada: " + "x" * 94 + "…"),
        (events.JobQueued(job=JOB), "job 000abc, @ada, small"),
        (events.JobStarted(job=JOB), "job 000abc, @ada, small"),
        (events.JobDone(job=JOB, message=said(1, "x")), "job 000abc, @ada, small"),
        (events.JobCancelled(job=JOB), "job 000abc, @ada, small"),
        (events.JobFailed(job=JOB, reason="it broke"), "job 000abc, @ada, small: it broke"),
        (events.ModelLoading(note="small is loading"), "small is loading"),
        (events.ToolCalled(job_id=JOB.id, call=call(arguments={"of": 1})), "price(of=1)"),
        (events.ToolReturned(job_id=JOB.id, call=call(arguments={})), "[price() → ok: 3 ⏎ and more]"),
        (events.ApprovalRequested(id=UUID(int=900), job_id=JOB.id, call=call(arguments={}), question="?"), "price()"),
        (events.ToolWaiting(job_id=JOB.id, call=call(), note="another cell runs"), "price: another cell runs"),
        (events.ToolFlagged(job_id=JOB.id, call=call(), reason="it reaches for keys"), "price: it reaches for keys"),
        (events.Closed(), ""),
    ],
)
def test_each_event_is_one_line(event, line):
    assert event_line(event, NAMES) == line
