"""Search terms, how well a text matches them, and which excerpt to show. Pure.

A text matches if it holds every term: a word, or a phrase in quotes. Case does not matter, nor which white space stands
between the words of a phrase.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from piano_jupyter.errors import StoreError

EXCERPT_CHARS = 160
MAX_SEARCH_CHARS = 1_000
TITLE_WEIGHT = 3.0  #: a match in a title counts more than one in a text
PART_WEIGHT = 0.25  #: a match inside a longer word ("port" in "transport") counts less
#: BM25's usual constants: Robertson & Zaragoza, The Probabilistic Relevance Framework (2009), 3.4.2
BM25_K1, BM25_B = 1.2, 0.75

GREEK_SIGMA = re.compile("[σςΣ]")  # at the end of a word its lower case is another letter
TERM = re.compile(r'"([^"]*[^\s"][^"]*)"|(\S+)')


@dataclass(frozen=True, slots=True)
class TermCounts:
    """How often each term occurs in a text, and how long the text is."""

    words: tuple[int, ...]  #: as whole words
    parts: tuple[int, ...]  #: inside longer words
    length: int


class SearchTerms:
    """The terms of a search. Raises StoreError if there are none, or one that no text can hold."""

    def __init__(self, text: str) -> None:
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise StoreError("the search holds half of a surrogate pair, which no text here has; take it out")
        if len(text) > MAX_SEARCH_CHARS:
            raise StoreError(
                f"the search is {len(text)} characters long; {MAX_SEARCH_CHARS} are enough to find a text by"
            )
        terms = [tuple((phrase or word).split()) for phrase, word in TERM.findall(text)]
        if not terms:
            raise StoreError('there is nothing to look for: give a word, or a "phrase in quotes"')
        once = {tuple(map(str.casefold, term)): r"\s+".join(map(re.escape, term)) for term in terms}
        self._patterns = [re.compile(pattern, re.IGNORECASE) for pattern in once.values()]
        pieces = {max(GREEK_SIGMA.split(word), key=len) for term in terms for word in term}
        #: Words that every matching text contains, whatever its case; longest first, since it rules out texts soonest.
        self.words = sorted(pieces, key=lambda piece: (-len(piece), piece))
        #: The pattern of the longest phrase, if there is one.
        self.phrase = max((pattern for term, pattern in once.items() if len(term) > 1), key=len, default="")

    def count(self, text: str) -> TermCounts | None:
        """Count the terms in a text; None if one is missing."""
        whole, parts = [], []
        for pattern in self._patterns:
            spans = [found.span() for found in pattern.finditer(text)]
            if not spans:
                return None
            whole.append(sum(_is_whole(text, *span) for span in spans))
            parts.append(len(spans) - whole[-1])
        return TermCounts(tuple(whole), tuple(parts), len(text))

    def excerpt(self, text: str) -> tuple[str, tuple[tuple[int, int], ...], int]:
        """Return one line around the best match, the positions of the terms in it, and the match's offset in the text.

        The best match is the first position with the most terms, and the most whole words, within an excerpt.
        """
        spans = sorted(
            (*found.span(), number, _is_whole(text, *found.span()))
            for number, pattern in enumerate(self._patterns)
            for found in pattern.finditer(text)
        )
        at = _best(spans)
        begin, end = _window(text, at)
        line = " ".join(text[begin:end].split())
        marks = _merged(found.span() for pattern in self._patterns for found in pattern.finditer(line))
        before, after = "…" if begin > 0 else "", "…" if end < len(text) else ""
        shift = len(before)
        return before + line + after, tuple((first + shift, last + shift) for first, last in marks), at


def scores(all_counts: Sequence[TermCounts]) -> list[float]:
    """Return how well each text matches, like BM25: repeated terms add less and less, and long texts count less.

    Rarity of a term is left out: every text here holds all of them.
    """
    mean = sum(counts.length for counts in all_counts) / len(all_counts) if all_counts else 1.0
    return [_score(counts, mean) for counts in all_counts]


def _score(counts: TermCounts, mean: float) -> float:
    damping = BM25_K1 * (1 - BM25_B + BM25_B * counts.length / max(mean, 1.0))
    return sum(
        times * (BM25_K1 + 1) / (times + damping) * weight
        for counts, weight in ((counts.words, 1.0), (counts.parts, PART_WEIGHT))
        for times in counts
    )


def _is_whole(text: str, begin: int, end: int) -> bool:
    return not (_splits_word(text, begin) or _splits_word(text, end))


def _splits_word(text: str, at: int) -> bool:
    """Return whether this offset is inside a word."""
    return 0 < at < len(text) and _in_word(text[at - 1]) and _in_word(text[at])


def _in_word(letter: str) -> bool:
    return letter.isalnum() or letter == "_"


def _best(spans: Sequence[tuple[int, int, int, bool]]) -> int:
    best, most = 0, (0, 0)
    for at, (begin, *_) in enumerate(spans):
        near = [span for span in spans[at : at + 20] if span[1] <= begin + EXCERPT_CHARS // 2]
        worth = (len({number for *_, number, _ in near}), len({number for *_, number, whole in near if whole}))
        if worth > most:
            best, most = begin, worth
    return best


def _window(text: str, at: int) -> tuple[int, int]:
    begin = max(0, min(at - EXCERPT_CHARS // 4, len(text) - EXCERPT_CHARS))
    end = min(len(text), begin + EXCERPT_CHARS)
    while begin > 0 and begin < at and _splits_word(text, begin):
        begin += 1
    while end < len(text) and end > at + EXCERPT_CHARS // 2 and _splits_word(text, end):
        end -= 1
    return begin, end


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((begin, end))
    return merged
