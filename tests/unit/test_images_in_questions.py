"""Images that a question names as `{{…}}`: they go along as those in `attachments` do; and what an edit keeps."""

import base64
import io

import pytest
from pictures import NO_VISION, VISION, image_url, png

from piano_jupyter import PianoError
from piano_jupyter.attachments.displayed import image_attachment
from piano_jupyter.errors import ImagesRefusedError, NotFoundError
from piano_jupyter.runner.model.message_roles import BEFORE_FIGURES
from piano_jupyter.testing import tool_call
from piano_jupyter.tool import ResultWithAttachments

QUESTION = "What is in {{fig}}?"


def asked(server):
    """Return the last message that arrived, as its text and the rest."""
    content = server.requests[-1]["messages"][-1]["content"]
    return (content, []) if isinstance(content, str) else (content[0]["text"], content[1:])


@pytest.mark.parametrize("verb", ["ask", "ask_all", "send", "send_all"])
async def test_the_very_bytes_of_an_image_in_the_text_arrive_with_each_verb(piano_on, verb):
    async with piano_on("a plot") as (piano, server):
        await getattr(piano, verb)(QUESTION, variables={"fig": png(30, 20)}, attachments=[png(5, 5)])
        await piano.drain()
        [question, _] = await piano.messages(piano.thread)

    assert asked(server) == (
        "What is in [fig, 30 × 20]?\n\n[attached: fig, 30 × 20]\n\n[attached: image, 5 × 5]",
        [image_url(png(30, 20)), image_url(png(5, 5))],
    )
    assert (question.typed, question.shown) == (QUESTION, "What is in fig · 30 × 20?")


async def test_figures_and_images_of_pillow_arrive_as_png(piano_on):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    images = pytest.importorskip("PIL.Image")

    async with piano_on("seen") as (piano, server):
        variables = {"axes": figure.subplots(), "red": images.new("CMYK", (4, 3), (0, 255, 255, 0))}
        await piano.ask("{{axes}} {{red}}", variables=variables)

    text, [plot, red] = asked(server)
    read = [images.open(io.BytesIO(base64.b64decode(each["image_url"]["url"].split(",")[1]))) for each in (plot, red)]
    assert text.startswith(f"[axes, {read[0].width} × {read[0].height}] [red, 4 × 3]\n\n[attached: axes, ")
    assert [each.format for each in read] == ["PNG", "PNG"]
    assert read[1].getpixel((0, 0)) == (255, 0, 0)


async def test_an_image_that_is_named_twice_is_sent_and_kept_once(piano_on):
    async with piano_on("seen") as (piano, server):
        await piano.ask("{{a}} {{a}} {{b}}", variables={"a": png(), "b": png()})
        kept = await piano.sql("SELECT count(*) FROM attachments")

    assert asked(server)[0].startswith("[a, 3 × 2] [a, 3 × 2] [b, 3 × 2]")
    assert asked(server)[1] == [image_url(png())] * 2  # under both of its names
    assert list(kept) == [(1,)]


async def test_l1_a_text_from_elsewhere_reaches_no_image(piano_on, tmp_path):
    (tmp_path / "secret.png").write_bytes(png(9, 9))
    path = f'{{{{image("{tmp_path}/secret.png")}}}}'

    async with piano_on("one", "two") as (piano, server):
        await piano.ask(f"{path} {{{{fig}}}}")
        await piano.ask("Read {{page}}", variables={"page": f"{path} {{{{fig}}}}", "fig": png(9, 9)})
        with pytest.raises(PianoError, match="nothing is called but"):
            await piano.ask(path, variables={"fig": png(9, 9)})
        with pytest.raises(NotFoundError):
            await piano.ask("{{fig}}", variables={})

    assert asked(server) == (f"Read {path} {{{{fig}}}}", [])
    assert "image_url" not in repr(server.requests)


async def test_a_model_that_is_known_not_to_see_is_told_at_once(piano_on):
    async with piano_on("one", serves=NO_VISION) as (piano, server):
        with pytest.raises(ImagesRefusedError, match="Assistant cannot be sent images"):
            await piano.ask(QUESTION, variables={"fig": png()})
        threads = await piano.threads()
        await piano.ask("hello")
        [question, _] = await piano.messages(piano.thread)
        with pytest.raises(ImagesRefusedError, match="Assistant cannot be sent images"):
            await piano.edit(question, QUESTION, variables={"fig": png()})
        branches = await piano.sql("SELECT count(*) FROM messages")

    assert threads == []
    assert (len(server.requests), list(branches)) == (1, [(2,)])


async def test_an_edited_question_keeps_what_was_given_and_draws_what_it_names_again(piano_on):
    async with piano_on(*"12345") as (piano, server):

        async def edited(text, **options):
            [question, *_] = await piano.messages(piano.thread)
            [job] = await piano.edit(question, text, **options)
            await piano.wait(job)
            return [base64.b64decode(each["image_url"]["url"].split(",")[1]) for each in asked(server)[1]]

        await piano.ask(QUESTION, variables={"fig": png(4, 4)}, attachments=[png(5, 5)])

        assert await edited(QUESTION, variables={"fig": png(6, 6)}) == [png(5, 5), png(6, 6)]
        assert await edited("What is it?") == [png(5, 5)]
        assert await edited(QUESTION, variables={"fig": png(7, 7)}, attachments=[png(8, 8)]) == [png(7, 7), png(8, 8)]
        assert await edited("And without?", attachments=[]) == []


async def test_an_edit_inserts_only_the_given_variables(piano_on):
    async with piano_on("one", "two", "three") as (piano, server):
        await piano.ask("hello")
        [question, _] = await piano.messages(piano.thread)
        for variables in ({"n": 3}, None):
            [job] = await piano.edit(question, "Say {{n}}", variables=variables)
            await piano.wait(job)
        with pytest.raises(NotFoundError, match="no variable named 'n'"):
            await piano.edit(question, "Say {{n}}", variables={})

    assert [each["messages"][-1]["content"] for each in server.requests] == ["hello", "Say 3", "Say {{n}}"]


async def test_an_image_in_the_text_survives_a_record_a_replay_and_an_export(piano_on, tmp_path):
    cassette = tmp_path / "work" / "talk.json"
    async with piano_on("a plot", record=cassette) as (piano, _):
        await piano.ask(QUESTION, variables={"fig": png(30, 20)})
        written = {form: await piano.export(piano.thread, form) for form in ("markdown", "notebook", "jsonl")}
    async with piano_on(replay=cassette) as (piano, server):
        answer = await piano.ask(QUESTION, variables={"fig": png(30, 20)})
        copied = await piano.import_thread(written["jsonl"])
        [question, _] = await piano.messages(copied)
        [loaded] = await piano.with_content([question])

    assert (answer.content, server.requests) == ("a plot", [])
    assert (question.typed, question.shown) == (QUESTION, "What is in fig · 30 × 20?")
    assert (loaded.attachments[0].content, loaded.attachments[0].name) == (png(30, 20), "fig")
    assert all(base64.b64encode(png(30, 20)).decode() in each for each in written.values())


def draw(count: int = 1) -> ResultWithAttachments:
    """Draw images."""
    images = [
        *(image_attachment(png(30, 20, shade)) for shade in range(count)),
        image_attachment(png(9, 9)[:-9] + b"x" * 2**21),
    ]
    return ResultWithAttachments(text="drawn", attachments=tuple(images))


async def asked_after_a_drawing(piano_on, serves, count=1):
    """Return the messages of the second request of the first turn, and those of the next turn."""
    script = [tool_call("draw", count=count), "I see", "still"]
    async with piano_on(*script, serves=serves, tools=[draw]) as (piano, server):
        await piano.update_agent("Assistant", enabled_tools=["draw"])
        await piano.ask("draw it")
        await piano.ask("and now?")
    return [each["messages"] for each in server.requests[1:]]


async def test_a_model_that_sees_is_sent_what_its_calls_have_shown(piano_on):
    during, after = await asked_after_a_drawing(piano_on, VISION)

    text = {"type": "text", "text": "[shown by draw: image, 30 × 20]"}
    assert [each["role"] for each in during] == ["user", "assistant", "tool", "assistant", "user"]
    assert during[-2:] == [
        {"role": "assistant", "content": BEFORE_FIGURES},
        {"role": "user", "content": [text, image_url(png(30, 20))]},
    ]
    assert after[: len(during)] == during
    assert [each["content"] for each in after[len(during) :]] == ["I see", "and now?"]


async def test_a_model_without_tools_in_its_template_is_not_offered_a_call_again_after_its_figure(piano_on):
    props = {"modalities": {"vision": True}, "chat_template_caps": {"supports_tools": False}}
    script = ['{"tool": "draw", "arguments": {"count": 1}}', '{"answer": "I see"}']
    async with piano_on(*script, serves={"/props": props}, tools=[draw]) as (piano, server):
        await piano.update_agent("Assistant", enabled_tools=["draw"])
        answer = await piano.ask("draw it")

    first, second = server.requests
    assert answer.content == "I see"
    assert second["messages"][-1]["content"][1] == image_url(png(30, 20))
    assert ["draw" in repr(each["response_format"]) for each in (first, second)] == [True, False]


async def test_of_many_figures_the_first_four_are_sent(piano_on):
    during, _ = await asked_after_a_drawing(piano_on, VISION, count=6)

    assert [each for each in during[-1]["content"] if each["type"] != "text"] == [
        image_url(png(30, 20, shade)) for shade in range(4)
    ]


@pytest.mark.parametrize("serves", [NO_VISION, {}], ids=["no vision", "unknown"])
async def test_a_model_that_may_not_see_reads_the_result_alone(piano_on, serves):
    during, after = await asked_after_a_drawing(piano_on, serves)

    assert [each["role"] for each in during] == ["user", "assistant", "tool"]
    assert "image_url" not in repr(after)


async def test_a_replay_knows_whether_the_model_sees(piano_on, tmp_path):
    cassette = tmp_path / "work" / "talk.json"
    turns = [[tool_call("draw", count=1), "I see"], []]
    for script, tape in zip(turns, ({"record": cassette}, {"replay": cassette}), strict=True):
        async with piano_on(*script, tools=[draw], **tape) as (piano, server):
            await piano.update_agent("Assistant", enabled_tools=["draw"])
            answer = await piano.ask("draw it")

    assert (answer.content, server.requests) == ("I see", [])
    cassette = tmp_path / "work" / "blind.json"
    for tape in ({"record": cassette}, {"replay": cassette}):
        async with piano_on(*"12", serves=NO_VISION, **tape) as (piano, _):
            await piano.ask("hello" * 1_000)  # which asks for the size of the context window
            with pytest.raises(ImagesRefusedError):
                await piano.ask("look", attachments=[png()])
