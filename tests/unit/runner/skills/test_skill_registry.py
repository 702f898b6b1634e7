"""Skill and SkillRegistry."""

import hashlib
import os
import re
import shutil
import unicodedata

import duckdb
import pytest
import yaml
from hypothesis import HealthCheck, assume, example, given, settings, strategies as st
from skills_ref import validate

from piano_jupyter.errors import NotFoundError
from piano_jupyter.runner.skills.skill import place
from piano_jupyter.runner.skills.skill_registry import SkillRegistry
from piano_jupyter.runner.tools.files.skill_folders import skill_roots
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


def test_f4_a_folder_wins_over_a_flat_file_and_an_earlier_root_over_a_later_one(registry, write):
    write("first/a/SKILL.md", in_folder("a", "from the folder"))
    flat = write("first/a.md", "flat")
    write("first/b.md", "first")
    again = write("second/b/SKILL.md", in_folder("b", "second"))
    write("second/c.md", "second")
    write("second/only-files/notes.txt", "no skill here")

    assert [(skill.name, skill.body) for skill in registry.list_available()] == [
        ("a", "from the folder"),
        ("b", "first"),
        ("c", "second"),
    ]
    assert registry.diagnostics() == [
        f"{flat}: not used; {flat.parent / 'a' / 'SKILL.md'} has the same name and comes first",
        f"{again}: not used; {flat.parent / 'b.md'} has the same name and comes first",
    ]


def test_a_prompt_is_the_same_bytes_whatever_the_order_of_the_names(registry, write):
    write("first/b.md", "\ufeffB\r\nbee\r\n")
    write("second/a/SKILL.md", in_folder("a"))

    prompt = registry.get_prompts(["b", "a", "b"]).prompt

    assert prompt == '<skill name="a">\nDo it.\n</skill>\n\n<skill name="b">\nB\nbee\n</skill>'
    assert registry.get_prompts(["a", "b"]).prompt == prompt
    assert registry.get_prompts([]).prompt == ""


def test_for_an_agent_without_skills_no_folder_is_looked_at():
    looked = []

    assert SkillRegistry(lambda: looked.append("at the folders")).get_prompts([]).prompt == ""
    assert looked == []


def test_a_new_or_changed_or_removed_file_counts_at_once(registry, write):
    assert registry.list_available() == []

    path = write("first/a.md", "one")
    assert registry.load_skill("a").body == "one"
    assert registry.load_skill("a") is registry.load_skill("a")
    path.write_text("three")
    assert registry.load_skill("a").body == "three"
    path.unlink()
    assert registry.list_available() == []


def test_an_unknown_skill_is_an_error_with_the_known_ones_and_the_reason_if_its_file_is_broken(registry, write):
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
    "date": ("---\ndescription: x\nday: 2026-99-99\n---\nDo.", "x"),
    "numbers": (f"---\ndescription: 1{':1' * 400}\n---\nDo.", f"1{':1' * 400}"),
    "empty-matter": ("---\n---\nDo.", "Do."),
}


@pytest.mark.parametrize("name", FINE)
def test_f5_an_odd_file_is_read_all_the_same(registry, write, name):
    text, description = FINE[name]
    write(f"first/{name}.md", text)

    assert registry.diagnostics() == []
    assert (registry.load_skill(name).description, registry.load_skill(name).body) == (description, "Do.")


BROKEN = {
    "a.md": (b"caf\xe9", "it is not UTF-8 (byte 3); save it as UTF-8"),
    "b.md": (b"a\0b", "it is not a text file; write it in Markdown"),
    "c.md": (" \n", "it is empty; write what the agent should do"),
    "d.md": ("---\nname: d\n", "its front matter has no end; add a line --- after it"),
    "e.md": (
        "---\nname: [a\nb: }\n---\nDo.",
        "its front matter is not YAML (line 3); write it as `name: value` lines",
    ),
    "f.md": ("---\n- a\n---\nDo.", "its front matter must be `name: value` lines"),
    "g.md": (
        "---\na: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n---\nDo.",
        "its front matter has YAML anchors or tags, which are not supported; write the values out",
    ),
    "h.md": (
        "---\nx: !!python/object/apply:os.getcwd []\n---\nDo.",
        "its front matter has YAML anchors or tags, which are not supported; write the values out",
    ),
    "i.md": ("---\nx: 1\ny: 2\nx: 3\n---\nDo.", "its front matter has 'x' twice; keep one"),
    "j.md": (
        f"---\nx: {'[' * 9000}\n---\nDo.",
        "its front matter has too many brackets; write it as `name: value` lines",
    ),
    "k.md": (f"---\nx: {'y' * 20_000}\n---\nDo.", "its front matter is longer than 16,000 characters"),
    "l.md": ("x" * 10_000_000, "it has 10,000,000 bytes, at most 100,000 are allowed"),
    "m.md": ("---\ndescription:\n  - a\n---\nDo.", "its description must be text; put it in quotes"),
    "n/SKILL.md": ("Do.", "its front matter must have name and description, between two lines ---"),
    "o/SKILL.md": (in_folder("p"), "it is named 'p' but its folder 'o'; make them the same"),
    "Upper.md": ("Do.", "'Upper' is not a valid name; use at most 64 lowercase letters"),
    "con.md": ("Do.", "'con' is not a valid name"),
    "a--b.md": ("Do.", "'a--b' is not a valid name"),
    f"{'x' * 65}.md": ("Do.", f"'{'x' * 65}' is not a valid name"),
    "200.md": (f"---\nname: {'x' * 200}\n---\nDo.", f"'{'x' * 200}' is not a valid name"),
    "r/SKILL.md": ("---\nname: r\ndescription: ''\n---\n", "it is empty; write what the agent should do, and when"),
    "q.md": ("---\nname: ../q\n---\nDo.", "'../q' is not a valid name"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_f4_f5_a_broken_file_is_a_diagnostic_and_the_others_are_used(registry, write, name):
    text, reason = BROKEN[name]
    path = write(f"first/{name}", text)
    write("first/fine.md", "Do.")

    assert [skill.name for skill in registry.list_available()] == ["fine"]
    (told,) = registry.diagnostics()
    assert told.startswith(f"{path}: {reason}")


def test_f5_a_special_file_is_a_diagnostic(registry, write, tmp_path):
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


WARNED = {
    "allowed-tools: Bash(*) Read": "allowed-tools is only shown; it grants nothing",
    f"compatibility: {'x' * 501}": "its compatibility must be text of at most 500 characters",
    "license:\n  - MIT": "its license must be text: a name, or the name of the license file",
    "metadata: none": "its metadata must be `name: value` lines, each value a text",
    "metadata:\n  a:\n    - b": "its metadata must be `name: value` lines, each value a text",
    "model: large\nversion: 1": "the standard has no field 'model', 'version'; move your own fields into metadata",
}


@pytest.mark.parametrize("line", WARNED)
def test_violations_of_the_standard_are_warnings_if_the_skill_is_usable(registry, write, line):
    path = write("first/tea/SKILL.md", f"---\nname: tea\ndescription: Makes tea.\n{line}\n---\nBoil water.")

    assert registry.load_skill("tea").body == "Boil water."
    assert registry.diagnostics() == [f"{path}: {WARNED[line]}"]


def test_a_long_description_is_truncated_and_a_skill_without_a_body_is_used(registry, write):
    write("first/long/SKILL.md", f"---\nname: long\ndescription: {'x' * 2000}\n---\nDo.")
    write("first/bare/skill.md", "---\nname: bare\ndescription: Say please.\n---\n")

    bare, long = registry.list_available()

    assert [each.partition(": ")[2] for each in registry.diagnostics()] == [
        "it has no text below its description",
        "its description has 2,000 characters, only the first 1,024 are used",
    ]
    assert (len(long.description), bare.prompt) == (1024, '<skill name="bare">\nSay please.\n</skill>')


def test_the_whole_front_matter_is_read_as_text(registry, write):
    front = (
        "license: Apache-2.0\ncompatibility: needs git\nmetadata:\n  author: ada\n  version: 1.0\nallowed-tools: Read"
    )
    path = write("first/tea/SKILL.md", f"---\nname: tea\ndescription: Makes\n  tea.\n{front}\n---\nBoil.")

    skill = registry.load_skill("tea")

    assert skill.metadata["metadata"] == {"author": "ada", "version": "1.0"}
    assert (skill.metadata["license"], skill.metadata["compatibility"]) == ("Apache-2.0", "needs git")
    assert (skill.description, skill.folder) == ("Makes tea.", path.parent)
    assert skill.sha == hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def test_g5_a_path_is_shown_without_the_machines_own_part(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    assert place(tmp_path / "work" / "skills" / "a.md", tmp_path / "work") == "skills/a.md"
    assert place(tmp_path / "home" / ".agents" / "skills" / "b" / "SKILL.md", tmp_path / "work") == (
        "~/.agents/skills/b/SKILL.md"
    )
    assert place(shipped("skills") / "c.md", tmp_path / "work") == "piano_jupyter/skills/c.md"


# -- beside the reference validator. What Piano does otherwise, on purpose: flat files are skills too; a colon in plain
# text is read; flow style (`[a]`, `{a: b}`), a byte order mark and three dashes in a value too; names that
# Windows reserves, anchors and more than 100,000 bytes are not.

names = st.sampled_from(
    ["tea", "Tea", "tea-pot", "-tea", "tea-", "te--a", "te_a", "t" * 64, "t" * 65, "thé", "123", "é è", ""]
)
texts = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")) | st.just(" "), min_size=1, max_size=40)
fields = st.fixed_dictionaries(
    {},
    optional={
        "name": names,
        "description": texts | st.sampled_from(["", " ", "x" * 1024, "x" * 1025]),
        "license": texts,
        "compatibility": texts | st.sampled_from(["x" * 500, "x" * 501]),
        "metadata": st.dictionaries(texts, texts, min_size=1, max_size=3),
        "allowed-tools": texts,
        "version": texts,
    },
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields, names.filter(bool), st.sampled_from(["Boil water.", ""]))
@example({"name": "tea", "description": "Makes tea."}, "tea", "Boil water.")
@example({"name": "tea", "description": "Makes tea.", "metadata": {"a": "b"}, "allowed-tools": "Bash"}, "tea", "")
def test_f4_f5_what_the_reference_accepts_is_loaded_and_what_it_rejects_is_reported(tmp_path, front, folder, body):
    root = tmp_path / "checked"
    shutil.rmtree(root, ignore_errors=True)
    file = root / folder / "SKILL.md"
    file.parent.mkdir(parents=True)
    matter = yaml.safe_dump(front, allow_unicode=True, sort_keys=False, width=10_000) if front else ""
    assume(matter.count("---") == 0)  # the reference ends front matter there
    file.write_text(f"---\n{matter}---\n{body}", encoding="utf-8")
    registry = SkillRegistry(lambda: [root])

    objections = validate(file.parent)

    if objections:
        assert registry.diagnostics() != []
    else:
        assert [skill.name for skill in registry.list_available()] == [unicodedata.normalize("NFKC", folder)]


@pytest.mark.parametrize("folder", sorted(each.parent.name for each in shipped("skills").glob("*/SKILL.md")))
def test_f5_the_shipped_skills_are_as_the_reference_has_them(folder):
    assert validate(shipped("skills") / folder) == []
