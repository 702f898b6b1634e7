"""Skill and SkillRegistry."""

import os
import re

import duckdb
import pytest

from piano_jupyter.errors import NotFoundError
from piano_jupyter.runner.skills import SkillRegistry, skill_roots
from piano_jupyter.shipped import shipped


@pytest.fixture
def write(tmp_path):
    """Write a skill's file beneath a root; return its path."""

    def write(path, text):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


@pytest.fixture
def registry(tmp_path):
    return SkillRegistry(lambda: [tmp_path / "first", tmp_path / "second"])


def in_folder(name, body="Do it."):
    return f"---\nname: {name}\ndescription: Does {name}.\n---\n\n{body}\n"


def test_a_flat_file_is_a_skill_named_after_it(registry, write):
    path = write("first/be-kind.md", "# Be kind\n\nSay please.\n")
    write("first/with-matter.md", "---\nname: other\ndescription: Say\n  so.\nlicense: MIT\n---\nBody\n---\nmore")
    write("first/README.md", "Not a skill.")
    write("first/.hidden.md", "Not one either.")
    write("first/data.txt", "Nor this.")

    kind, other = registry.list_available()

    assert (kind.name, kind.description, kind.body, kind.path) == (
        "be-kind",
        "Be kind",
        "# Be kind\n\nSay please.",
        path,
    )
    assert (other.name, other.description, other.body) == ("other", "Say so.", "Body\n---\nmore")
    assert other.metadata["license"] == "MIT"
    assert registry.diagnostics() == []


def test_a_folder_wins_over_a_flat_file_and_an_earlier_root_over_a_later_one(registry, write):
    write("first/a/SKILL.md", in_folder("a", "from the folder"))
    flat = write("first/a.md", "flat")
    write("first/b.md", "first")
    write("second/b/SKILL.md", in_folder("b", "second"))
    write("second/c.md", "second")
    write("second/only-files/notes.txt", "no skill here")

    assert [(skill.name, skill.body) for skill in registry.list_available()] == [
        ("a", "from the folder"),
        ("b", "first"),
        ("c", "second"),
    ]
    assert registry.diagnostics() == [
        f"{flat}: not used, because {flat.parent / 'a' / 'SKILL.md'} has the same name; remove one"
    ]


def test_a_prompt_is_the_same_bytes_whatever_the_order_of_the_names(registry, write):
    write("first/b.md", "\ufeffB\r\nbee\r\n")
    write("second/a/SKILL.md", in_folder("a"))

    prompt = registry.get_prompts(["b", "a", "b"])

    assert prompt == '<skill name="a">\nDo it.\n</skill>\n\n<skill name="b">\nB\nbee\n</skill>'
    assert registry.get_prompts(["a", "b"]) == prompt
    assert registry.get_prompts([]) == ""


def test_a_new_or_changed_or_removed_file_counts_at_once(registry, write):
    assert registry.list_available() == []

    path = write("first/a.md", "one")
    assert registry.load_skill("a").body == "one"
    assert registry.load_skill("a") is registry.load_skill("a")
    path.write_text("three")
    assert registry.load_skill("a").body == "three"
    path.unlink()
    assert registry.list_available() == []


def test_an_unknown_skill_is_refused_with_those_that_there_are_and_the_reason_if_its_file_is_broken(registry, write):
    write("first/tell.md", "Tell.")
    write("first/broken/SKILL.md", "no front matter")

    with pytest.raises(NotFoundError, match=r"^no skill named 'tel'; known: tell$"):
        registry.load_skill("tel")
    with pytest.raises(
        NotFoundError, match=r"no skill named 'broken'; known: tell; .*SKILL.md: its front matter must have"
    ):
        registry.get_prompts(["tell", "broken"])


FINE = {
    "colon": ("---\ndescription: Use when: it's asked\n---\nDo.", "Use when: it's asked"),
    "dashes": ("---\ndescription: a --- b\nmore: |\n  ---\n  x\n---\nDo.", "a --- b"),
    "crlf": ("\ufeff---\r\ndescription: x\r\n---\r\nDo.\r\n", "x"),
    "old-mac": ("---\rdescription: x\r---\rDo.", "x"),
    "long": (f"---\ndescription: {'x' * 2000}\n---\nDo.", "x" * 1024),
    "date": ("---\ndescription: x\nday: 2026-01-01\n---\nDo.", "x"),
    "empty-matter": ("---\n---\nDo.", "Do."),
}


@pytest.mark.parametrize("name", FINE)
def test_an_odd_file_is_read_all_the_same(registry, write, name):
    text, description = FINE[name]
    write(f"first/{name}.md", text)

    assert registry.diagnostics() == []
    assert (registry.load_skill(name).description, registry.load_skill(name).body) == (description, "Do.")


BROKEN = {
    "a.md": (b"caf\xe9", "it is not UTF-8 (byte 3); save it as UTF-8"),
    "b.md": (b"a\0b", "it is not a text; write it in Markdown"),
    "c.md": (" \n", "it says nothing; write what the agent should do"),
    "d.md": ("---\nname: d\n", "its front matter has no end; put a line --- after it"),
    "e.md": (
        "---\nname: [a\nb: }\n---\nDo.",
        "its front matter is not YAML (line 3); write it as `name: value` lines",
    ),
    "f.md": ("---\n- a\n---\nDo.", "its front matter must be `name: value` lines"),
    "g.md": (
        "---\na: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n---\nDo.",
        "its front matter is not YAML; write it as `name: value` lines",
    ),
    "h.md": (
        "---\nx: !!python/object/apply:os.getcwd []\n---\nDo.",
        "its front matter is not YAML (line 2); write it as `name: value` lines",
    ),
    "i.md": ("---\nx: 2026-99-99\n---\nDo.", "its front matter is not YAML; write it as `name: value` lines"),
    "j.md": (
        f"---\nx: {'[' * 9000}\n---\nDo.",
        "its front matter has too many brackets; write it as `name: value` lines",
    ),
    "k.md": (f"---\nx: {'y' * 20_000}\n---\nDo.", "its front matter is longer than 16,000 characters"),
    "l.md": ("x" * 10_000_000, "it has 10,000,000 bytes, 100,000 are allowed"),
    "m.md": (
        f"---\ndescription: 1{':1' * 7000}\n---\nDo.",
        "its name and its description must be text; put them in quotes",
    ),
    "n/SKILL.md": ("Do.", "its front matter must have name and description, between two lines of ---"),
    "o/SKILL.md": (in_folder("p"), "it is named 'p' but its folder 'o'; make them the same"),
    "Upper.md": ("Do.", "'Upper' is no name for a skill; use lowercase letters"),
    "con.md": ("Do.", "'con' is no name for a skill"),
    "a--b.md": ("Do.", "'a--b' is no name for a skill"),
    f"{'x' * 65}.md": ("Do.", f"'{'x' * 65}' is no name for a skill"),
    "q.md": ("---\nname: ../q\n---\nDo.", "'../q' is no name for a skill"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_a_diagnostic_and_the_others_are_used(registry, write, name):
    text, reason = BROKEN[name]
    path = write(f"first/{name}", text)
    write("first/fine.md", "Do.")

    assert [skill.name for skill in registry.list_available()] == ["fine"]
    (told,) = registry.diagnostics()
    assert told.startswith(f"{path}: {reason}")


def test_a_file_that_is_no_file_is_a_diagnostic(registry, write, tmp_path):
    root = write("first/fine.md", "Do.").parent
    secret = write("secret.md", "s")
    (root / "out.md").symlink_to(secret)
    (root / "gone.md").symlink_to("nothing")
    (root / "loop.md").symlink_to("loop.md")
    (root / "folder.md").mkdir()
    os.mkfifo(root / "pipe.md")
    (root / "linked").symlink_to(tmp_path)
    write("SKILL.md", in_folder("linked"))
    write("second", "a file where a folder should be")

    assert [skill.name for skill in registry.list_available()] == ["fine"]
    told = {each.partition(": ")[0].rpartition("/")[2]: each for each in registry.diagnostics()}
    assert set(told) == {"SKILL.md", "folder.md", "gone.md", "loop.md", "out.md", "pipe.md"}
    assert "leads out of its folder" in told["out.md"]
    assert "leads out of its folder" in told["SKILL.md"]


def test_the_roots_are_in_order_and_each_once(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "linked").symlink_to("skills")

    roots = skill_roots(tmp_path, ["~/mine", "team", "/abs", "linked"])

    assert roots == [
        tmp_path / "home" / "mine",
        tmp_path / "team",
        *[root for root in roots if str(root) == "/abs"],
        tmp_path / "linked",
        tmp_path / ".agents" / "skills",
        tmp_path / "home" / ".agents" / "skills",
        shipped("skills"),
    ]


def test_two_useful_skills_are_shipped_one_flat_and_one_in_a_folder():
    registry = SkillRegistry(lambda: [shipped("skills")])

    skills = registry.list_available()

    assert registry.diagnostics() == []
    assert [skill.path.relative_to(shipped("skills")).as_posix() for skill in skills] == [
        "explain-simply.md",
        "sql-with-duckdb/SKILL.md",
    ]
    assert all(len(skill.body) < 2_200 for skill in skills)


def test_the_queries_in_the_shipped_skill_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sales.csv").write_text("id,day,shop,amount\n1,2026-01-01,north,10.5\n2,2026-01-02,south,n/a\n")
    body = SkillRegistry(lambda: [shipped("skills")]).load_skill("sql-with-duckdb").body

    with duckdb.connect() as connection:
        blocks = [connection.execute(block) for block in re.findall(r"```sql\n(.*?)```", body, re.DOTALL)]

    assert len(blocks) == 3
    assert (tmp_path / "sales.parquet").exists()
