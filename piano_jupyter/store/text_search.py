"""What a search looks for, how well a text fits it, and which place of it to show. Pure.

A text that fits has every term: a word, or a phrase in quotes. Case does not matter, nor which white space stands
between the words of a phrase.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from piano_jupyter.errors import StoreError

EXCERPT = 160  #: characters
LONGEST = 1_000  #: characters of a search
TITLE_WEIGHT = 3.0  #: a word in a title says more than one in a text
PART_WEIGHT = 0.25  #: "port" in "transport" says less than "port"
K1, B = 1.2, 0.75  #: BM25's usual constants: Robertson & Zaragoza, The Probabilistic Relevance Framework (2009), 3.4.2

SIGMA = re.compile("[σςΣ]")  # at the end of a word its lower case is another letter
TERM = re.compile(r'"([^"]*[^\s"][^"]*)"|(\S+)')


@dataclass(frozen=True, slots=True)
class TermCounts:
    """How often each term stands in a text, and how long the text is."""

    whole: tuple[int, ...]  #: as a word, or as words
    parts: tuple[int, ...]  #: inside longer words
    length: int


class SearchTerms:
    """The terms of a search. Raises StoreError where there are none, or one that no text can hold."""

    def __init__(self, text: str) -> None:
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise StoreError("the search holds half of a surrogate pair, which no text here has; take it out")
        if len(text) > LONGEST:
            raise StoreError(f"the search is {len(text)} characters long; {LONGEST} are enough to find a text by")
        terms = [tuple((phrase or word).split()) for phrase, word in TERM.findall(text)]
        if not terms:
            raise StoreError('there is nothing to look for: give a word, or a "phrase in quotes"')
        once = {tuple(map(str.casefold, term)): r"\s+".join(map(re.escape, term)) for term in terms}
        self._patterns = [re.compile(pattern, re.IGNORECASE) for pattern in once.values()]
        pieces = {max(SIGMA.split(word), key=len) for term in terms for word in term}
        #: What a text that fits contains, whatever its case; longest first, for that is soonest seen to be missing.
        self.words = sorted(pieces, key=lambda piece: (-len(piece), piece))
        #: The pattern of the longest phrase, if there is one.
        self.phrase = max((pattern for term, pattern in once.items() if len(term) > 1), key=len, default="")

    def tally(self, text: str) -> TermCounts | None:
        """Count the terms in a text; None where one is missing."""
        whole, parts = [], []
        for pattern in self._patterns:
            spans = [found.span() for found in pattern.finditer(text)]
            if not spans:
                return None
            whole.append(sum(_is_whole(text, *span) for span in spans))
            parts.append(len(spans) - whole[-1])
        return TermCounts(tuple(whole), tuple(parts), len(text))

    def excerpt(self, text: str) -> tuple[str, tuple[tuple[int, int], ...], int]:
        """Return a line around the best place, the marks of the terms in it, and where in the text that place is.

        The best place is the first from which most terms, and most of them as whole words, are within an excerpt.
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


def scores(tallies: Sequence[TermCounts]) -> list[float]:
    """Return how well each text fits, BM25-like: more often is better, ever less so, and a long text counts less.

    A term's rarity is left out: every text here has all of them.
    """
    mean = sum(tally.length for tally in tallies) / len(tallies) if tallies else 1.0
    return [_score(tally, mean) for tally in tallies]


def _score(tally: TermCounts, mean: float) -> float:
    damping = K1 * (1 - B + B * tally.length / max(mean, 1.0))
    return sum(
        times * (K1 + 1) / (times + damping) * weight
        for counts, weight in ((tally.whole, 1.0), (tally.parts, PART_WEIGHT))
        for times in counts
    )


def _is_whole(text: str, begin: int, end: int) -> bool:
    return not (_joined(text, begin) or _joined(text, end))


def _joined(text: str, at: int) -> bool:
    """Whether a word goes on across this place."""
    return 0 < at < len(text) and _in_word(text[at - 1]) and _in_word(text[at])


def _in_word(letter: str) -> bool:
    return letter.isalnum() or letter == "_"


def _best(spans: Sequence[tuple[int, int, int, bool]]) -> int:
    best, most = 0, (0, 0)
    for at, (begin, *_) in enumerate(spans):
        near = [span for span in spans[at : at + 20] if span[1] <= begin + EXCERPT // 2]
        worth = (len({number for *_, number, _ in near}), len({number for *_, number, whole in near if whole}))
        if worth > most:
            best, most = begin, worth
    return best


def _window(text: str, at: int) -> tuple[int, int]:
    begin = max(0, min(at - EXCERPT // 4, len(text) - EXCERPT))
    end = min(len(text), begin + EXCERPT)
    while begin > 0 and begin < at and _joined(text, begin):
        begin += 1
    while end < len(text) and end > at + EXCERPT // 2 and _joined(text, end):
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
