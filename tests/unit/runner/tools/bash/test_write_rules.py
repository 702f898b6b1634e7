"""Rules for the file tools also bind what commands write."""

import pytest

FILES = {"config/old": "mine", "other": "mine, too"}
#: A rule, a command, and the files that must be there afterwards unless the rule asks and the user approves.
WRITES = {
    "changed": ("edit_file(config/*)", "echo evil >config/old", FILES),
    "removed": ("edit_file(config/*)", "rm -r config", FILES),
    "moved away": ("edit_file(config/*)", "mv config/old x; mv config y", FILES),
    "replaced by a moved one": ("edit_file(config/*)", "mv other config/old", FILES),
    "in another case": ("edit_file(CONFIG/OLD)", "echo evil >config/old", FILES),
    "by a full path": ("edit_file(*/config/*)", "echo evil >config/old", FILES),
    "made": ("create_file(config/*)", "echo evil >config/new", FILES),
    "by a folder in its place": ("edit_file(other)", "rm other; mkdir other; echo evil >other/x", FILES),
    "by a link": ("create_file(config/*)", "ln -s ../other config/new", FILES),
}


def contents(folder):
    return {each.relative_to(folder).as_posix(): each.read_text() for each in folder.rglob("*") if each.is_file()}


@pytest.fixture
def run_under(bash_of, sandboxed, tmp_path):
    """Run a command under a rule; return the files afterwards, what the model reads, and what the user was asked."""

    async def run_under(rule, command, *, approves=False):
        for name, content in FILES.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(content)
        bash = bash_of(rules=[rule] if rule else [])
        bash.approves = approves
        _, text = await bash(f"{command}; echo on >ordinary", mode="write")
        return contents(tmp_path), text, bash.asked

    return run_under


@pytest.mark.parametrize("name", WRITES)
async def test_k15_what_a_rule_denies_is_not_written_by_commands_either(run_under, name):
    rule, command, files = WRITES[name]

    left, text, asked = await run_under(f"deny {rule}", command)

    assert {path: left.get(path) for path in files} == files
    assert not any("evil" in content for content in left.values())
    assert "config/new" not in left
    assert left["ordinary"] == "on\n"
    assert f"is what your rule 'deny {rule}' is about" in text
    assert asked == []


@pytest.mark.parametrize("approves", [False, True])
async def test_k15_what_a_rule_asks_about_waits_for_an_approval(run_under, approves):
    left, _, asked = await run_under("ask edit_file(config/*)", "echo new >config/old", approves=approves)

    assert left["config/old"] == ("new\n" if approves else "mine")
    assert len(asked) == 1


@pytest.mark.parametrize("name", WRITES)
async def test_k15_control_without_the_rule_the_files_are_changed(run_under, name):
    _, command, files = WRITES[name]

    left, _, _ = await run_under("", command)

    assert {path: left.get(path) for path in (*files, "config/new")} != {**files, "config/new": None}


async def test_rules_about_other_files_or_without_a_path_hold_nothing_back(run_under):
    for rule in ("deny edit_file", "deny create_file(config/*)", "allow edit_file(config/*)", "deny edit_file(x/*)"):
        left, text, _ = await run_under(rule, "echo new >config/old")

        assert (left["config/old"], "rule" in text) == ("new\n", False)
