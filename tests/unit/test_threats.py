"""Each code in the name of a test has a row in tests/threats.md, and each row names the files whose tests bear it."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROWS = [
    [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in (TESTS / "threats.md").read_text(encoding="utf-8").splitlines()
    if re.match(r"\| [A-Z]\d+ \|", line)
]
CODES = re.compile(r"(?m)^(?:async )?def test_((?:[a-z]\d+_(?:to_)?)+)")
CODE = re.compile(r"([a-z])(\d+)(?:_to_[a-z](\d+))?")  # h1_to_h6 is six of them


def codes_of(text):
    """Return the codes in the names of tests: `test_h1_to_h3_f2_…` has H1, H2, H3 and F2."""
    for name in CODES.findall(text):
        for letter, first, last in CODE.findall(name):
            yield from (f"{letter.upper()}{number}" for number in range(int(first), int(last or first) + 1))


def test_each_code_in_a_tests_name_has_its_row_and_each_row_the_files_that_show_it():
    borne = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for code in codes_of(path.read_text(encoding="utf-8")):
            borne.setdefault(code, {})[path.relative_to(TESTS).as_posix()] = None
    shown = {row[0]: re.findall(r"`([\w/]+\.py)`", row[3]) for row in ROWS}

    assert len(ROWS) == len(shown)
    assert {code: files for code, files in shown.items() if files} == {code: [*files] for code, files in borne.items()}


def test_a_row_without_a_test_says_why_and_each_says_what_comes_and_what_must_come_of_it():
    assert all(row[1] and row[2] for row in ROWS)
    assert [row[0] for row in ROWS if ".py`" not in row[3] and not re.match(r"not covered: \w.{20}", row[3])] == []


def test_each_row_of_the_comparison_with_other_sandboxes_is_shown_by_tests():
    page = (TESTS.parent / "piano_jupyter/docs/sandbox-compared.md").read_text(encoding="utf-8")
    rows = [line.split("|")[-2].strip() for line in page.splitlines() if line.startswith("| ")][2:]
    shown = {row[0] for row in ROWS if ".py`" in row[3]}

    assert len(rows) >= 12
    assert all(codes and set(codes.split(", ")) <= shown for codes in rows)


#: Rows of what is held by the sandbox of files, the rules and the approvals.
WITH_CONTROL = re.compile(r"A1[789]|A2[0-4]|D1[34]|E[35]|E1[234]|F2[012]|K\d+")


def test_each_attack_on_files_that_act_later_rules_and_approvals_is_run_without_the_defence_too():
    tests = "\n".join(path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py"))
    controls = re.findall(r"(?m)^(?:async )?def test_[a-z]\d+_\w*control\w*", tests)
    shown = {code for name in controls for code in codes_of(name)}

    assert [row[0] for row in ROWS if WITH_CONTROL.fullmatch(row[0]) and row[0] not in shown] == []
