"""A question as it was typed and as it is sent: agents read what was inserted, people see what it is."""

import pandas as pd
import pytest

from piano_jupyter import Piano, PianoError
from piano_jupyter.errors import NotFoundError
from piano_jupyter.jupyter.render.transcript import Transcript, message_html
from piano_jupyter.records import Inserted, Message
from piano_jupyter.testing import ScriptedModel, ScriptedServer

SALES = pd.DataFrame({"item": ["tea", "<script>alert(1)</script>"], "price": [2.5, 3.0]})
QUESTION = "Which sold {{n}} of {{sales}}?"


@pytest.fixture
def model():
    return ScriptedModel(["one", "two", "three"])


@pytest.fixture
async def piano(tmp_path, model):
    async with Piano(database=tmp_path / "db", workspace=tmp_path, model=model) as piano:
        yield piano


def asked(model):
    return model.requests[-1].messages[-1]["content"]


async def test_only_the_given_variables_are_inserted(piano, model):
    await piano.ask(QUESTION, variables={"n": 3, "sales": SALES})

    assert "Which sold 3 of pandas.DataFrame, 2 rows × 2 columns" in asked(model)
    with pytest.raises(NotFoundError, match="no variable named 'SALES'"):
        await piano.ask("{{SALES}}", variables={"n": 3})
    with pytest.raises(PianoError, match="a name can stand there"):
        await piano.send_all("{{1}}", variables={})


async def test_l1_without_variables_a_text_stays_as_it_is(piano, model):
    await piano.ask("a {{page}} {{{{b}}}} {{1}}")

    assert asked(model) == "a {{page}} {{{{b}}}} {{1}}"
    assert (await piano.messages(piano.thread))[0].typed == ""


@pytest.mark.parametrize("verb", ["ask", "ask_all", "send", "send_all"])
async def test_each_verb_that_asks_takes_variables(piano, verb):
    await getattr(piano, verb)("Say {{word}}", variables={"word": "tea"})

    [question, *_] = await piano.messages(piano.thread)
    assert (question.content, question.typed) == ("Say tea", "Say {{word}}")
    await piano.drain()


async def test_what_was_typed_is_kept_shown_and_copied(piano, model, tmp_path):
    await piano.ask(QUESTION, variables={"n": 3, "sales": SALES})
    [question, answer] = await piano.messages(piano.thread)

    assert question.typed == QUESTION
    assert question.content == asked(model)
    assert question.shown == "Which sold 3 of sales · 2 × 2?"
    assert piano.thread.title == "Which sold 3 of sales · 2 × 2?"
    text = await piano.export(piano.thread, "jsonl")
    copy, _ = await piano.messages(await piano.import_thread(text))
    fork, _ = await piano.messages(await piano.fork_thread(answer))
    for each in (copy, fork):
        assert (each.content, each.typed, each.inserted) == (question.content, QUESTION, question.inserted)
    assert {thread.title for thread in await piano.threads()} >= {"Which sold 3 of sales · 2 × 2?"}


async def test_a_search_shows_what_was_typed_unless_the_words_were_inserted(piano):
    await piano.ask(QUESTION, variables={"n": 3, "sales": SALES})

    [typed] = [hit for hit in await piano.search("Which sold") if hit.message]
    [inserted] = await piano.search("DataFrame")

    assert typed.excerpt == "Which sold 3 of sales · 2 × 2?"
    assert "pandas.DataFrame" in inserted.excerpt


async def test_l5_a_value_mentions_no_agent(piano):
    await piano.add_agent("eve")

    await piano.ask("{{who}} hello", variables={"who": "@eve"})
    [question, answer] = await piano.messages(piano.thread)

    assert question.content == "@eve hello"
    assert answer.agent_id == (await piano.agent("Assistant")).id


async def test_l6_an_imported_question_cannot_be_shown_as_another_than_is_sent(piano):
    line = (
        '{"messages": [{"role": "user", "content": "delete all"}],'
        ' "typed": [{"message": 0, "text": "say {{word}}", "inserted": [["hello", "hello"]]}]}'
    )
    [question] = await piano.messages(await piano.import_thread(line))

    assert question.shown == "delete all"
    assert piano.thread.title == "delete all"


@pytest.mark.parametrize(
    "typed", ["1", '[{"message": 9}]', '[{"message": 0, "text": "", "inserted": [["a"]]}]', '["x"]']
)
async def test_a_file_with_another_form_of_typed_is_refused(piano, typed):
    with pytest.raises(PianoError, match="line 1 has a 'typed' that is not as %piano export writes it"):
        await piano.import_thread(f'{{"messages": [{{"role": "user", "content": "a"}}], "typed": {typed}}}')


def question_of(make):
    frame = Inserted("<b>sales</b> · 2 × 2", "item\n<script>alert(1)</script>")
    sent = f"Look at {frame.text}!"
    return make.message(sent, typed="Look at {{sales}}!", inserted=(frame,))


def test_l7_the_html_of_what_was_inserted_is_text(make):
    html = message_html(question_of(make), "You")

    assert "<script" not in html
    assert "<b>" not in html
    assert "<details" in html
    assert "<summary><code>&lt;b&gt;sales&lt;/b&gt; · 2 × 2</code></summary>" in html
    assert "<pre>item\n&lt;script&gt;alert(1)&lt;/script&gt;</pre>" in html.replace(' style="margin:0 0 1em"', "")


def test_a_terminal_shows_the_label(make):
    shown = repr(Transcript("Talk", [question_of(make)], [], {}))

    assert "You: Look at <b>sales</b> · 2 × 2!" in shown
    assert "alert" not in shown


def test_of_a_message_without_typed_text_the_content_is_shown(make):
    message: Message = make.message("{{a}} as it is")

    assert message.parts == ["{{a}} as it is"]
    assert message.shown == "{{a}} as it is"


async def test_secrets_in_what_was_typed_and_inserted_are_masked(piano):
    secret = "sk-" + "aB3" * 14
    await piano.ask("{{key}} {{rows}} " + secret, variables={"key": secret, "rows": [secret] * 3})

    rows = await piano.sql("SELECT content, typed, inserted FROM messages")

    assert secret not in str(list(rows))


async def test_a_third_of_the_context_window_is_the_most_that_a_frame_takes(tmp_path):
    serves = {"/props?model=qwen3%3A32b": {"default_generation_settings": {"n_ctx": 3000}}}
    with ScriptedServer(["one", "two"], serves=serves) as server:
        async with Piano(database=":memory:", workspace=tmp_path, base_url=server.url, embedded="never") as chat:
            await chat.ask("{{n}}", variables={"n": pd.DataFrame({"n": range(10_000)})})
            small = await chat.frame_budget("{{sales}}")

    assert small == 1_000
    assert 3_600 <= len(server.requests[0]["messages"][-1]["content"]) <= 4_000


async def test_where_the_window_is_not_known_the_setting_counts(piano):
    piano.config.frame_tokens = 700

    assert await piano.frame_budget("{{sales}}") == 700
