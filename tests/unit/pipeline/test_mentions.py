"""Which agents a message or an answer mentions."""

import html
import re
import unicodedata
from uuid import UUID

import pytest

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.pipeline.mentions import (
    MAX_AGENTS_PER_ANSWER,
    MAX_DELEGATED_JOBS,
    MAX_DELEGATIONS,
    agent_named,
    answering_agents,
    check_name,
    limit_delegation,
    mentioned_agents,
)
from piano_jupyter.records import Thread


def thread(make, primary=None):
    made = make.message("")
    return Thread(id=UUID(int=9), title="t", inserted_at=made.inserted_at, primary_agent_id=primary and primary.id)


def names(agents):
    return [agent.name for agent in agents]


@pytest.fixture
def crew(make):
    return [make.agent(name) for name in ("eve", "ada", "bob", "ada.b", "c-3_po")]


def asks(text, crew):
    return names(mentioned_agents(text, crew[0], crew))


@pytest.mark.parametrize("text", ["@bob hi", "  @bob, hi", "@bob: hi", "@bob", "\n@bob.\nhi"])
def test_the_agent_mentioned_at_the_start_answers(make, crew, text):
    assert names(answering_agents(text, crew, thread(make))) == ["bob"]


@pytest.mark.parametrize(
    "text",
    ["@ada @bob how", "@ada, @bob: how", "@ada,@bob how", "@ada @bob @ada how", "@ada\n@bob", "@ada @bob and @eve"],
)
def test_all_agents_mentioned_at_the_start_answer_in_order_and_each_once(make, crew, text):
    assert names(answering_agents(text, crew, thread(make))) == ["ada", "bob"]


@pytest.mark.parametrize(
    "text",
    [
        "@ada and @bob",
        "@ada: @bob says no",
        "@ada @property explained @bob",
        "@ada @bobby",
        "@ada hi @bob",
        "@ada (@bob)",
    ],
)
def test_what_is_no_handle_ends_the_list_and_so_does_a_colon(make, crew, text):
    assert names(answering_agents(text, crew, thread(make))) == ["ada"]


def test_a_name_with_a_full_stop_is_not_taken_for_a_shorter_one(make, crew):
    assert names(answering_agents("@ada.b @c-3_po hi", crew, thread(make))) == ["ada.b", "c-3_po"]


@pytest.mark.parametrize(
    "text",
    [
        "@Bob hi",
        "@BOB",
        "@bob\u0301 hi",
        "@bob\u200b hi",
        r"\@bob hi",
        '"@bob" hi',
        "＠bob hi",
        "hi @bob",
        "@bobby hi",
        "@property explained",
        "bob hi",
        "@bob.example hi",
        "@bob/x",
        "",
    ],
)
def test_without_an_exact_handle_at_the_beginning_the_primary_agent_answers(make, crew, text):
    assert names(answering_agents(text, crew, thread(make, crew[1]))) == ["ada"]


def test_without_a_primary_agent_the_first_one_answers(make, crew):
    assert names(answering_agents("hi", crew, thread(make))) == ["eve"]


@pytest.mark.parametrize(
    "text",
    [
        "@ada",
        "What do you think, @ada?",
        "@ada.",
        "@ada...",
        "@ada, please",
        "@ada: please",
        "**@ada** please",
        "*@ada*",
        "~~no~~ @ada",
        "(@ada)",
        "# @ada",
        "- @ada: sort it",
        "| who |\n|---|\n| @ada |",
        "[@ada](https://example.org/@bob)",
        "line\n@ada",
        "line—@ada!",
        "`x` @ada",
        'It is 5" wide, @ada.',
        "@bobby and @ada",
        r"\*@ada\*",
        "👋🏽 @ada",
        "café, @ada",
        "@ada👍",
        "@ada &amp; co",
    ],
)
def test_an_exact_handle_in_prose_is_a_mention(crew, text):
    assert asks(text, crew) == ["ada"]


@pytest.mark.parametrize(
    "text",
    [
        "@adam",
        "@Ada",
        "mail@ada",
        "user@ada.example",
        "@ada.example",
        "@ada/x",
        "https://example.org/@ada",
        "https://example.org/?by=(@ada",
        "<https://example.org/#(@ada)>",
        "@@ada",
        "@ada@example.org",
        "@ada(1)",
        "@ada's idea",
        "@ada’s idea",
        "@ada:example.org",
        "@adaé",
        "@ada.é",
        "éa@ada",
        "ada",
        "@ ada",
        "@",
    ],
)
def test_a_handle_within_a_longer_word_is_no_mention(crew, text):
    assert asks(text, crew) == []


@pytest.mark.parametrize(
    "text",
    [
        "`@ada`",
        "```\n@ada\n```",
        "```python\n@ada",
        "~~~\n@ada",
        "    @ada",
        "> @ada do it",
        "> she said\n@ada",
        "- item\n  > @ada",
        '"@ada" is the word',
        "You said “thanks, @ada”.",
        "Sie sagte „danke, @ada“.",
        "Elle dit « merci @ada ».",
        'a "*b* `"` @ada" c',
        "<!-- @ada -->",
        "<div>\n@ada\n</div>",
        "<code>@ada</code>",
        "x <q>@ada</q> y",
        "<blockquote>\n\n@ada\n\n</blockquote>",
        '<img alt="@ada">',
        "![@ada](x.png)",
        "[x](@ada)",
        '[x](y "@ada")',
        "[x]: @ada",
    ],
)
def test_f8_a_handle_in_code_in_a_quotation_or_in_a_link_is_no_mention(crew, text):
    assert asks(text, crew) == []


@pytest.mark.parametrize(
    "text",
    [
        *["@Ada", "@ADA", "＠ada", "@аda", "@ada\u0301", "@ad\u0301a", "e\u0301@ada", "@ada\u20dd", "@ada\u0903"],
        *["@ada\u200b", "@ada\u200d", "@ada\u2060", "@ada\xad", "@ada\ufe0f", "@ada\U000e0061", "@ada.\u200b"],
        *["\u200b@ada", "\u202e@ada", "@\u200bada", "@a\u200bda", "@ada\u0301.b"],
        *[r"\@ada", r"\\@ada", "&#64;ada", "&#x40;ada", "&commat;ada", "@&#97;da", "@ad&#97;", "@ada&#769;", r"@ad\a"],
        *["@**ada**", "@a**da**", "**@a**da", "**@**ada", "@[ada](x)", "@_ada_", "~~@~~ada", "ma**il**@ada"],
        *[
            "'@ada'",
            "'ask @ada'",
            "‘@ada’",
            "‚@ada‘",
            '"@ada',
            'one "two\n\nask @ada"',
            "&quot;@ada&quot;",
            r"\"@ada\"",
        ],
    ],
)
def test_f20_only_an_exact_handle_mentions_an_agent(make, crew, text):
    a_to_ada = [*crew, *map(make.agent, ["a", "ad"])]

    assert names(mentioned_agents(text, crew[0], a_to_ada)) == []


@pytest.mark.parametrize(
    "text", ["@ADA", "＠ada", "@ada\u0301", "@\u200bada", "\u202e@ada", r"\@ada", "&#64;ada", "@**ada**", "'ask @ada'"]
)
def test_f20_control_a_forgiving_search_finds_an_agent_there(text):
    plain = unicodedata.normalize("NFKD", re.sub(r"[*\\]", "", html.unescape(text))).casefold()

    assert "@ada" in "".join(each for each in plain if unicodedata.category(each) not in {"Cf", "Mn"})


def test_an_underscore_may_be_escaped_as_models_do(crew):
    assert asks(r"@c-3\_po, go on", crew) == ["c-3_po"]


def test_a_name_may_contain_a_full_stop_a_hyphen_and_an_underscore(crew):
    assert asks("@ada.b. And @c-3_po!", crew) == ["ada.b", "c-3_po"]


def test_mentioned_agents_are_listed_once_in_order_of_appearance(crew):
    assert asks("@bob, @ada, then @bob again", crew) == ["bob", "ada"]


def test_f12_an_answer_does_not_ask_its_own_author(crew):
    assert asks("@eve, go on; @bob, too", crew) == ["bob"]


@pytest.mark.parametrize("hops", range(MAX_DELEGATIONS))
def test_f8_a_question_is_delegated_below_the_limit(crew, hops):
    assert limit_delegation(crew[1:2], hops, 0) == (crew[1:2], None)


@pytest.mark.parametrize("hops", [MAX_DELEGATIONS, MAX_DELEGATIONS + 1])
def test_f8_at_the_limit_the_chain_stops_and_a_note_says_so(crew, hops):
    asked, note = limit_delegation(crew[:2], hops, 0)

    handles = ", ".join(f"@{agent.name}" for agent in crew[:2])
    assert (asked, note) == ([], f"not asked: {handles}; the chain stops after 4 delegations")


def test_f8_an_answer_that_mentions_nobody_needs_no_note_at_the_limit(crew):
    assert limit_delegation([], MAX_DELEGATIONS, MAX_DELEGATED_JOBS) == ([], None)


def test_f12_an_answer_that_mentions_fifty_agents_asks_the_first_four_and_says_so(make):
    others = [make.agent(f"a{number}") for number in range(1, 51)]

    asked, note = limit_delegation(others, 0, 0)

    assert asked == others[:MAX_AGENTS_PER_ANSWER]
    assert note == (
        "not asked: @a5, @a6, @a7, @a8, @a9, @a10, @a11, @a12, @a13, @a14 and 36 more; "
        "an answer can ask at most 4 agents"
    )


def test_f12_the_delegations_of_one_question_are_limited(crew):
    asked, note = limit_delegation(crew[:2], 1, MAX_DELEGATED_JOBS - 1)

    assert asked == crew[:1]
    assert note == f"not asked: @{crew[1].name}; one question can be delegated at most 20 times in total"


@pytest.mark.parametrize("piece", ["@", "@ada", "@ada.", "@a", "@ada ", "@ada…"])
def test_any_text_ends(make, crew, piece):
    text = piece * (100_000 // len(piece))

    assert len(asks(text + " @ada", crew)) <= 1
    assert answering_agents(text, crew, thread(make))


def test_the_error_for_an_unknown_name_lists_the_known_ones_nearest_first(make):
    with pytest.raises(NotFoundError, match=r"no agent named 'bobb'; known: bob, ada"):
        agent_named([make.agent("ada"), make.agent("bob")], "@bobb")


@pytest.mark.parametrize("name", ["", "two words", "1st", "@ada", "a" * 65, "ünal", "ada.", "You", "all", "User"])
def test_a_name_that_is_no_handle_is_refused(name):
    with pytest.raises(PianoError, match="cannot be an agent's name"):
        check_name(name)
