"""Plain words: what people and models read uses the field's terms, and a name means one thing."""

import ast
import io
import json
import re
import tokenize
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "piano_jupyter"
MODULES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

#: words and phrases of a private English, and what to write
BANNED = {
    r"knobs?": "setting",
    r"mend(s|ed|ing)?": "fix, repair",
    r"errands?": "task",
    r"heed(s|ed)?": "follow, respect",
    r"anew": "again",
    r"a yes": "approval",
    r"yes or no": "approval",
    r"to the letter": "exactly",
    r"hand(s|ed|ing)? on": "delegate, pass on",
    r"befalls?": "happens to",
    r"glances?": "look, summary",
    r"in the place of": "instead of",
    r"whence|thence|hither|thither|thereof|therein|wherein|whereof|upon": "say it plainly",
    r"shall": "must, should",
    r"stubborn(ly)?": "say what it does",
    r"is at hand|at hand here": "available, cached",
    r"falls? silent|fell silent": "sent nothing",
    r"what becomes? of": "what happens to",
    r"has become of": "has happened to",
    r"came of (it|them)": "result",
    r"lest": "so that … not",
    r"nought|naught": "nothing",
    r"misfits?": "mismatch",
    r"stead": "instead",
}
BAN = re.compile(rf"(?<![\w-])({'|'.join(BANNED)})(?![\w-])", re.IGNORECASE)


def _said(path: Path) -> list[tuple[str, str]]:
    """Return what a file says to people: all of a page, the texts and comments of code, as (place, text)."""
    name = str(path.relative_to(ROOT))
    if path.suffix == ".ipynb":
        return [(name, "".join(cell["source"])) for cell in json.loads(path.read_text())["cells"]]
    if path.suffix != ".py":
        return [(f"{name}:{number}", line) for number, line in enumerate(path.read_text().splitlines(), 1)]
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
    said = (tokenize.STRING, tokenize.COMMENT)
    return [(f"{name}:{token.start[0]}", token.string) for token in tokens if token.type in said]


def _pages() -> list[Path]:
    folders = (PACKAGE / "docs", ROOT / "skills", ROOT / "notebooks")
    pages = [page for folder in folders for kind in ("*.md", "*.ipynb") for page in folder.rglob(kind)]
    return [*pages, ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *PACKAGE.rglob("*.js")]


@pytest.mark.parametrize("path", [*MODULES, *_pages()], ids=lambda path: str(path.relative_to(ROOT)))
def test_messages_docstrings_and_pages_use_plain_words(path):
    found = [(place, match[0]) for place, text in _said(path) for match in BAN.finditer(text)]
    assert not found


def test_the_list_of_banned_words_finds_them():
    assert [match[0] for match in BAN.finditer("Mend the knob: it waits for a yes, to the letter.")] == [
        "Mend",
        "knob",
        "a yes",
        "to the letter",
    ]
    assert not BAN.search("Recommend amending; yesterday's knobkerrie; offshore; instead")


def test_names_of_tests_use_plain_words():
    names = [
        (path.name, node.name)
        for path in TESTS
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]
    assert len(names) > 1000
    assert not [each for each in names if BAN.search(each[1].replace("_", " "))]


def test_no_class_name_means_two_things():
    names = Counter(
        node.name
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    )
    assert len(names) > 200
    assert not [name for name, times in names.items() if times > 1]


def test_no_two_modules_have_one_name():
    names = Counter(path.name for path in MODULES if path.name != "__init__.py")
    assert not [name for name, times in names.items() if times > 1]


def test_constants_carry_their_unit():
    """A number as a constant says in its name what it counts."""
    units = r"(_S|_MS|_BYTES|_CHARS|_TOKENS|_LINES|_ROWS|_COUNT|_RATIO|_DAYS)$"
    vague = re.compile(r"^(LONGEST|LARGEST|SHORTEST|PATIENCE|MOMENT|AGAIN|LOOK|GLANCE|STUBBORN|GRACE|LONG|SHORT|MANY)$")
    found = [
        (str(path.relative_to(ROOT)), target.id)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and vague.search(target.id) and not re.search(units, target.id)
    ]
    assert not found
