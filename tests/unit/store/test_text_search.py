"""What a search looks for, how texts are ranked and what is shown of them."""

import pytest

from piano_jupyter.errors import StoreError
from piano_jupyter.store.text_search import EXCERPT_CHARS, SearchTerms, scores


def shown(text, wanted):
    excerpt, marks, at = SearchTerms(wanted).excerpt(text)
    return excerpt, [excerpt[begin:end] for begin, end in marks], at


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ("duck", "the DUCKLING"),
        ("Straße", "in der straße"),
        ("ПРИВЕТ мир", "мир, привет"),
        ("οδος", "ΟΔΟΣ και οδός οδος"),
        ("ÉTÉ", "l'été"),
        ('"red  fox"', "a Red\n\tfox"),
        ('say "hi there" twice', "twice we say hi there"),
        ('"red fox" "a hen"', "a hen, a red fox"),
        ('5" disk', 'a 5" disk'),
        ("c++ 100% a_b", "100% of a_b is C++"),
        (r"\d .* [x] (y|z) $", r"\d .* [x] (y|z) $"),
        ("a\0b", "xa\0b"),
        ("漢字", "これは漢字です"),
    ],
)
def test_a_text_with_all_the_terms_matches_in_any_case_and_order(wanted, text):
    assert SearchTerms(wanted).count(text) is not None


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ("duck goose", "a duck"),
        ('"red fox"', "a fox, red"),
        ("100%", "1000"),
        ("a_b", "axb"),
        (".*", "all"),
        ("'", "x"),
    ],
)
def test_a_text_that_lacks_a_term_does_not_match(wanted, text):
    assert SearchTerms(wanted).count(text) is None


@pytest.mark.parametrize(
    ("wanted", "told"),
    [("", "nothing to look for"), (" \n ", "nothing to look for"), ("a \ud800", "surrogate"), ("x" * 1001, "1001")],
)
def test_an_impossible_search_is_refused(wanted, told):
    with pytest.raises(StoreError, match=told):
        SearchTerms(wanted)


def test_words_to_search_for_are_longest_first_and_split_at_sigma():
    wanted = SearchTerms('of elephants "grey of ΟΔΟΣ"')

    assert wanted.words == ["elephants", "grey", "ΟΔΟ", "of"]
    assert wanted.phrase == r"grey\s+of\s+ΟΔΟΣ"


def test_scores_prefer_repeated_terms_whole_words_and_short_texts():
    texts = ["a port here", "a port, a port", "transport is", "a port " + "and more " * 50]
    wanted = SearchTerms("port")
    once, twice, part, long = scores([wanted.count(text) for text in texts])

    assert twice > once > part > 0
    assert once > long > 0
    assert scores([]) == []


def test_an_excerpt_is_one_line_around_the_match_with_its_words_marked():
    text = "x " * 500 + "the quick\n\n  Red \t fox jumps" + " y" * 500
    excerpt, marked, at = shown(text, '"red fox" quick')

    assert marked == ["quick", "Red fox"]
    assert "\n" not in excerpt
    assert EXCERPT_CHARS // 2 < len(excerpt) <= EXCERPT_CHARS + 2
    assert excerpt[0] == excerpt[-1] == "…"
    assert text[at:].startswith("quick")


def test_an_excerpt_shows_where_most_terms_occur_together():
    text = "fox " + "- " * 300 + "foxes, " + "- " * 300 + "a red fox"

    assert text[SearchTerms("red fox").excerpt(text)[2] :] == "red fox"
    assert SearchTerms("fox").excerpt(text)[2] == 0


def test_a_short_text_is_shown_in_full_and_touching_marks_are_merged():
    assert shown("Foobar", "foo bar oob") == ("Foobar", ["Foobar"], 0)
    assert shown("one", "ONE") == ("one", ["one"], 0)


def test_an_excerpt_does_not_start_or_end_inside_a_word():
    text = " ".join(f"word{n}" for n in range(200))
    excerpt, marked, _ = shown(text, "word100")

    assert marked == ["word100"]
    assert set(excerpt.strip("…").split()) <= set(text.split())


def test_an_excerpt_of_one_very_long_word_is_short():
    excerpt, marked, at = shown("a" * 10_000 + "needle" + "a" * 10_000, "needle")

    assert marked == ["needle"]
    assert at == 10_000
    assert len(excerpt) <= EXCERPT_CHARS + 2
