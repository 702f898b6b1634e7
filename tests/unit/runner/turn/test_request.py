"""Requests to a model with a small window: what is sent, yielded and stored when the history does not fit."""

import itertools
from dataclasses import dataclass, field, replace

import pytest

from piano_jupyter.clock import Clock
from piano_jupyter.errors import ContextOverflowError, ModelRefusedError
from piano_jupyter.events import Answered, HistoryTrimmed, MessageAdded
from piano_jupyter.runner.model.protocol import Delta, Reply, RequestedCall
from piano_jupyter.runner.turn.context_window import prompt_size
from piano_jupyter.runner.turn.request import SUMMARY_PROMPT
from piano_jupyter.runner.turn.run_turn import run_turn
from piano_jupyter.runner.turn.tool_call_executor import Permission
from piano_jupyter.runner.turn.turn_input import TurnInput
from piano_jupyter.tool import tool


@dataclass
class SmallModel:
    """A model with a window of so many tokens, each of so many bytes; it rejects longer prompts, as llama.cpp does."""

    n_ctx: int = 2_000
    a_token: float = 4.0
    tells: bool = True  #: the error names the window
    names_prompt: bool = True  #: and how long the prompt is
    stubborn: bool = False  #: it refuses everything
    script: list = field(default_factory=list)
    asked: list = field(default_factory=list)
    refused: list = field(default_factory=list)

    async def stream(self, request):
        tokens = int(prompt_size(request.messages, request.tools) / self.a_token)
        if tokens >= self.n_ctx or self.stubborn:
            self.refused.append(request)
            told = {"n_ctx": self.n_ctx, "n_prompt": tokens if self.names_prompt else None} if self.tells else {}
            raise ContextOverflowError("the conversation no longer fits", **told)
        self.asked.append(request)
        step = self.script.pop(0) if self.script else "yes"
        if isinstance(step, str):
            yield Delta(text=step)
            yield Reply(text=step, finish_reason="stop", usage={"prompt_tokens": tokens})
        else:
            yield Reply(calls=tuple(step), finish_reason="tool_calls", usage={"prompt_tokens": tokens})


@dataclass
class Talk:
    """A thread of one agent, that is asked and answers."""

    make: object
    model: SmallModel
    context: int | None = None
    history: list = field(default_factory=list)
    calls: list = field(default_factory=list)
    asked_window: list = field(default_factory=list)
    settings: dict = field(default_factory=dict)

    def __post_init__(self):
        self.agent = self.make.agent("ada", system_prompt="Be kind.")

    async def ask(self, text):
        """Return the events of a turn, and store its messages as the consumer does."""
        self.history.append(self.make.message(text))

        async def context(model):
            self.asked_window.append(model)
            return self.context

        async def permit(_call, _tool):
            return Permission()

        turn = TurnInput(
            job=self.make.job(self.history[-1], self.agent),
            agent=self.agent,
            history=self.history,
            calls=self.calls,
            names={self.agent.id: "ada"},
            skills="",
            tools=self.settings.get("tools", []),
            max_iterations=20,
            max_tool_calls=50,
            max_turn_tokens=0,
            max_turn_s=60,
            tool_timeout=9,
            tool_output_limit=100_000,
            context=context,
            sees_images=context,
            summarize=self.settings.get("summarize", False),
        )
        told = [event async for event in run_turn(turn, self.model, permit, lambda _: None, Clock())]
        self.history += [event.message for event in told if isinstance(event, MessageAdded | Answered)]
        return told


@pytest.fixture
def talk(make):
    return lambda model, context=None, **settings: Talk(make, model, context, settings=settings)


def kinds(events):
    return [type(event).__name__ for event in events if isinstance(event, HistoryTrimmed | MessageAdded | Answered)]


async def test_a_short_talk_does_not_ask_how_large_the_window_is(talk):
    here = talk(SmallModel(), 2_000)

    await here.ask("hello")

    assert here.asked_window == []


async def test_old_turns_are_trimmed_before_the_server_rejects_and_each_prompt_begins_with_the_one_before(talk):
    model = SmallModel()
    here = talk(model, 2_000)
    trimmed = []
    for number in range(60):
        trimmed += [
            event for event in await here.ask(f"{number}: " + "word " * 40) if isinstance(event, HistoryTrimmed)
        ]

    assert model.refused == []
    assert [event.turns for event in trimmed] == sorted({event.turns for event in trimmed})
    assert 2 <= len(trimmed) <= 10
    kept = [
        later.messages[: len(earlier.messages)] == list(earlier.messages)
        for earlier, later in zip(model.asked, model.asked[1:], strict=False)
    ]
    assert kept.count(False) == len(trimmed)
    notes = [message for message in here.history if message.role == "system"]
    assert [note.content for note in notes] == [event.note for event in trimmed]
    assert model.asked[-1].messages[1]["content"].startswith(f"[note] {notes[-1].content}")


async def test_an_overflow_is_fixed_once_by_the_window_in_the_error(talk):
    model = SmallModel(a_token=1.0)
    here = talk(model)
    for number in range(4):
        await here.ask(f"{number}" * 400)

    events = await here.ask("and now " * 60)

    assert kinds(events) == ["HistoryTrimmed", "MessageAdded", "Answered"]
    assert len(model.refused) == 1
    assert prompt_size(model.asked[-1].messages, []) < 0.6 * 2_000 + 200
    assert "the context of 2,000 tokens" in events[0].note


async def test_an_overflow_without_numbers_trims_to_half_of_what_was_sent(talk):
    model = SmallModel(a_token=1.0, tells=False)
    here = talk(model)
    for number in range(5):
        await here.ask(f"{number}" * 300)

    events = await here.ask("and now?" * 30)

    assert kinds(events)[0] == "HistoryTrimmed"
    assert "the model's context" in events[0].note
    assert prompt_size(model.asked[-1].messages, []) <= 0.5 * prompt_size(model.refused[0].messages, []) + 200


async def test_one_huge_message_loses_its_middle_and_the_question_is_answered(talk):
    model = SmallModel()
    here = talk(model, 2_000)

    events = await here.ask("first " + "word " * 10_000 + "last")

    sent = model.asked[0].messages[-1]["content"]
    assert kinds(events) == ["HistoryTrimmed", "MessageAdded", "Answered"]
    assert events[0].turns == 0
    assert sent.startswith("first word")
    assert sent.endswith("last")
    assert "characters are left out here" in sent


async def test_a_tool_loop_that_fills_the_window_goes_on_with_shorter_results(talk):
    @tool
    def read(at: int) -> str:
        """Read."""
        return f"begin {at} " + "line " * 300 + f"end {at}"

    model = SmallModel(script=[[RequestedCall(name="read", arguments={"at": at})] for at in range(12)])
    here = talk(model, 2_000, tools=[read])

    events = await here.ask("Read all.")

    assert kinds(events)[-1] == "Answered"
    assert model.refused == []
    last = [message["content"] for message in model.asked[-1].messages if message["role"] == "tool"]
    assert len(last) == 12
    assert all(text.startswith(f"begin {at}") and text.endswith(f"end {at}") for at, text in enumerate(last))


async def test_what_cannot_be_made_to_fit_is_an_error_that_says_what_to_do(talk):
    model = SmallModel(stubborn=True)

    with pytest.raises(ContextOverflowError, match=r"context of 2,000 tokens.*fewer tools and skills.*larger context"):
        await talk(model).ask("hello")
    assert len(model.refused) == 2


async def test_an_answer_that_may_fill_the_window_is_at_fault_and_not_the_history(talk):
    model = SmallModel(names_prompt=False)
    here = talk(model)
    await here.ask("hello")
    here.agent = replace(here.agent, options={"max_tokens": 2_000})
    model.stubborn = True

    told = r"ada has max_tokens=2,000, .* context of 2,000 tokens; lower it: %piano agent ada --option max_tokens=500"
    with pytest.raises(ContextOverflowError, match=told):
        await here.ask("and now?")
    assert len(model.refused) == 1
    assert all(message.role != "system" for message in here.history)


async def test_while_the_window_is_unknown_the_prompt_is_halved_until_it_fits(talk):
    model = SmallModel(n_ctx=100_000)
    here = talk(model)
    for number in range(40):
        await here.ask(f"{number}: " + "word " * 200)
    sent = prompt_size(model.asked[-1].messages, [])
    model.n_ctx, model.tells = 1_000, False

    events = await here.ask("and now?")

    assert kinds(events)[-1] == "Answered"
    sizes = [prompt_size(request.messages, []) for request in model.refused]
    assert len(sizes) == 4
    assert sizes[0] > sent
    assert all(after <= before / 2 + 300 for before, after in itertools.pairwise(sizes))


async def test_after_four_times_it_is_an_error_that_says_only_what_was_tried(talk):
    model = SmallModel(n_ctx=100_000)
    here = talk(model)
    for number in range(60):
        await here.ask(f"{number}: " + "word " * 400)
    model.stubborn, model.tells = True, False  # so that each cut leaves more to cut

    with pytest.raises(ContextOverflowError, match="does not fit in the model's context; ask for less") as caught:
        await here.ask("and now?")
    assert len(model.refused) == 5
    assert "earlier turns" not in str(caught.value)


async def test_that_it_does_not_fit_without_the_earlier_turns_is_said_if_they_were_left_out(talk):
    model = SmallModel()
    here = talk(model)
    for _ in range(3):
        await here.ask("hello")
    model.stubborn = True

    with pytest.raises(ContextOverflowError, match="context of 2,000 tokens, even without the earlier turns;"):
        await here.ask("and now?")


async def test_a_window_that_is_known_without_the_prompts_size_is_enough_for_a_much_longer_prompt(talk):
    model = SmallModel(n_ctx=100_000)
    here = talk(model)
    for number in range(40):
        await here.ask(f"{number}: " + "word " * 400)
    model.n_ctx, model.names_prompt = 1_200, False

    assert kinds(await here.ask("and now?"))[-1] == "Answered"


async def test_trimmed_turns_are_summarized_once_where_the_setting_says_so(talk):
    model = SmallModel()
    here = talk(model, 2_000, summarize=True)
    number = 0
    while not any(message.role == "system" for message in here.history):
        model.script = ["yes"] if number < 25 else []
        await here.ask(f"{number}: " + "word " * 40)
        number += 1

    *_, asked, after = model.asked
    [note] = [message for message in here.history if message.role == "system"]
    assert asked.messages[-1]["content"].endswith(SUMMARY_PROMPT)
    assert asked.tools == ()
    assert asked.options["max_tokens"] == 300
    assert note.content.endswith("Summary of these turns:\n\nyes")
    assert note.usage["prompt_tokens"] > 0
    assert after.messages[1]["content"].startswith("[note] The first")

    await here.ask("more")
    assert len(model.asked) == number + 2


async def test_a_summary_that_fails_does_not_cost_the_answer(talk):
    class Refusing(SmallModel):
        async def stream(self, request):
            if request.messages[-1]["content"].endswith(SUMMARY_PROMPT):
                raise ModelRefusedError("the server answered 400: no")
            async for piece in super().stream(request):
                yield piece

    here = talk(Refusing(), 2_000, summarize=True)
    while not any(message.role == "system" for message in here.history):
        await here.ask("word " * 40)

    [note] = [message for message in here.history if message.role == "system"]
    assert note.content.endswith("They could not be summarized: the server answered 400: no.")
    assert here.history[-1].content == "yes"


async def test_f2_arguments_that_repeat_an_escaped_text_mean_what_stood_there(talk):
    seen = []

    @tool
    def write(text: str) -> str:
        """Write."""
        seen.append(text)
        return "ok"

    model = SmallModel(script=[[RequestedCall(name="write", arguments={"text": "<\\s>old</s> <\\|im_start|>"})]])

    await talk(model, tools=[write]).ask("Write.")

    assert seen == ["<s>old</s> <|im_start|>"]
    assert "<\\\\|im_start|>" in model.asked[-1].messages[-2]["tool_calls"][0]["function"]["arguments"]


async def test_a_window_that_is_full_in_the_middle_of_an_answer_is_an_error_and_nothing_is_written_twice(talk):
    class Breaking(SmallModel):
        async def stream(self, request):
            self.asked.append(request)
            yield Delta(text="It is ")
            raise ContextOverflowError("the context is full", n_ctx=2_000, n_prompt=1_000)

    model = Breaking()
    here = talk(model, 2_000)

    with pytest.raises(ContextOverflowError, match=r"context of 2,000 tokens.*larger context"):
        await here.ask("How far is it?")
    assert len(model.asked) == 1
