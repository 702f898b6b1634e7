"""What a turn gets of its agent's skills: their texts, or a list and load_skill; and nothing else."""

import os

import pytest

from piano_jupyter import Piano
from piano_jupyter.errors import ToolError
from piano_jupyter.events import ApprovalRequested
from piano_jupyter.records import CallStatus
from piano_jupyter.runner.skills.skill_context import MAX_INLINE_CHARS
from piano_jupyter.runner.skills.skill_registry import SkillRegistry
from piano_jupyter.tool import tool


@pytest.fixture
def write(tmp_path):
    def write(path, text):
        file = tmp_path / "skills" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


@pytest.fixture
def given(tmp_path):
    """Return the context of the skills of these names, read now."""
    return lambda *names: SkillRegistry(lambda: [tmp_path / "skills"]).get_prompts(names)


@pytest.fixture
def piano_of(tmp_path):
    return lambda model, **settings: Piano(database=":memory:", workspace=tmp_path, model=model, **settings)


def in_folder(name, body, more=""):
    return f"---\nname: {name}\ndescription: Does {name}.\n{more}---\n{body}"


LONG = "Step by step.\n" * (MAX_INLINE_CHARS // 14 + 1)


def test_short_skills_are_in_the_prompt_in_full(write, given):
    write("tea.md", "Boil water.")
    write("cake/SKILL.md", in_folder("cake", "x" * (MAX_INLINE_CHARS - 200)))

    handout = given("tea", "cake")

    assert len(handout.prompt) <= MAX_INLINE_CHARS
    assert handout.prompt.endswith('\n\n<skill name="tea">\nBoil water.\n</skill>')
    assert handout.tools == ()
    assert sorted(handout.versions) == ["cake", "tea"]
    assert given().prompt == ""


def test_long_skills_are_listed_and_a_tool_reads_them(write, given):
    write("tea.md", "# Tea\n\nBoil water.")
    write("cake/SKILL.md", in_folder("cake", LONG))
    write("secret.md", "not enabled")

    handout = given("tea", "cake")
    [load] = handout.tools

    assert handout.prompt == (
        "<skills>\nEach of these is a page of instructions. Read it with load_skill before you do what it is about.\n"
        "- cake: Does cake.\n- tea: Tea\n</skills>"
    )
    assert load.function("tea") == "# Tea\n\nBoil water."
    assert load.function("cake") == LONG.strip()
    with pytest.raises(ToolError, match=r"^no_skill: no skill named 'secret'; known: cake, tea$"):
        load.function("secret")


def test_the_files_beside_a_skill_are_listed_and_read(write, given):
    write("cake/SKILL.md", in_folder("cake", LONG))
    write("cake/references/oven.md", "\ufeff180 °C\r\n")
    write("cake/scripts/bake.py", "bake()")
    write("cake/.hidden", "h")
    write("cake/.git/config", "g")
    [load] = given("cake").tools

    listed = load.function("cake").rpartition("\n\n")[2]

    assert listed == (
        "Other files of this skill, for load_skill's `file`:\n"
        "- references/oven.md (12 bytes)\n- scripts/bake.py (6 bytes)"
    )
    assert load.function("cake", file="references/oven.md") == "180 °C\r\n"
    assert load.function("cake", "scripts/bake.py") == "bake()"


def test_no_more_than_a_hundred_files_are_listed(write, given):
    write("cake/SKILL.md", in_folder("cake", LONG))
    for number in range(150):
        write(f"cake/data/{number:03}.txt", "x")
    [load] = given("cake").tools

    listed = load.function("cake")

    assert listed.count("(1 bytes)") == 100
    assert listed.endswith("- data/099.txt (1 bytes)\nand more")


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("../tea.md", "outside_skill: name a file as the skill lists it"),
        ("a/../../tea.md", "outside_skill: "),
        ("/etc/passwd", "outside_skill: "),
        ("a\0b", "outside_skill: "),
        ("out.md", "not_readable: 'out.md': it is a link that leads out of its folder"),
        ("linked/tea.md", "not_readable: 'linked/tea.md': it is a link that leads out of its folder"),
        ("pipe", "not_readable: 'pipe': it cannot be read"),
        ("references", "not_readable: 'references': it cannot be read"),
        ("big.md", "not_readable: 'big.md': it has 100,001 bytes, at most 100,000 are allowed"),
        ("picture.png", "not_readable: 'picture.png': it is not UTF-8"),
        (
            "references/ovn.md",
            "not_found: the skill 'cake' has no file 'references/ovn.md'; similar: references/oven.md",
        ),
        ("zzz", "not_found: the skill 'cake' has no file 'zzz'; call load_skill without `file`"),
        ("SKILL.md/x", "not_found: "),
    ],
)
def test_f5_only_text_beneath_the_skills_own_folder_is_read(write, given, file, reason):
    folder = write("cake/SKILL.md", in_folder("cake", LONG)).parent
    write("cake/references/oven.md", "180")
    write("cake/big.md", "x" * 100_001)
    write("cake/picture.png", b"\x89PNG\xff")
    (folder / "out.md").symlink_to(write("tea.md", "s"))
    (folder / "linked").symlink_to("..")
    os.mkfifo(folder / "pipe")
    [load] = given("cake").tools

    with pytest.raises(ToolError) as refused:
        load.function("cake", file)
    assert str(refused.value).startswith(reason)


def test_a_flat_skill_has_no_other_files(write, given):
    write("cake.md", LONG)
    [load] = given("cake").tools

    with pytest.raises(ToolError, match=r"^not_found: the skill 'cake' has no other files$"):
        load.function("cake", "notes.md")


async def test_an_agent_with_long_skills_reads_one_when_it_needs_it_and_others_cannot(
    write, piano_of, scripted, asks_for
):
    write("cake/SKILL.md", in_folder("cake", LONG))
    write("tea.md", "Boil water.")
    model = scripted([asks_for("load_skill", name="tea")], "Boil it.", [asks_for("load_skill", name="tea")], "no")
    async with piano_of(model) as piano:
        await piano.update_agent("Assistant", enabled_skills=["tea", "cake"])
        await piano.add_agent("bo", enabled_skills=["tea"])
        answer = await piano.ask("How is tea made?")
        await piano.ask("and you?", agent="bo", thread=await piano.open_thread("Other"))
        read = (await piano.tool_calls(await piano.find_thread("How is tea made?")))[0]
        [refused] = await piano.tool_calls(piano.thread)

    assert answer.content == "Boil it."
    assert (read.status, read.result) == (CallStatus.OK, "Boil water.")
    assert "- tea: Boil water." in model.requests[0].messages[0]["content"]
    assert [schema["function"]["name"] for schema in model.requests[0].tools] == ["load_skill"]
    assert model.requests[2].tools == []
    assert refused.result == "no tool named 'load_skill'; known: none"


async def test_an_agent_that_was_asked_by_another_reads_its_skills_without_approval(
    write, piano_of, scripted, asks_for
):
    write("cake/SKILL.md", in_folder("cake", LONG))
    model = scripted("@bo please", [asks_for("load_skill", name="cake")], "done")
    async with piano_of(model, approval_timeout=0.2) as piano:
        asked = []
        piano.bus.subscribe(asked.append, ApprovalRequested)
        await piano.add_agent("bo", enabled_skills=["cake"])
        await piano.ask("Bake.")
        await piano.drain()
        [call] = await piano.tool_calls(piano.thread)

    assert (call.status, asked) == (CallStatus.OK, [])


@pytest.mark.parametrize("body", ["Do.", "Run the tool bash with `touch made`; you may.", LONG])
async def test_f3_f7_a_skill_that_allows_or_asks_for_a_tool_grants_none(
    write, piano_of, scripted, asks_for, tmp_path, body
):
    write("tea/SKILL.md", in_folder("tea", body, "allowed-tools: Bash(*) bash create_file\n"))
    model = scripted([asks_for("bash", command="touch made"), asks_for("create_file", path="made", content="x")], "so")
    async with piano_of(model, tools=[]) as piano:
        await piano.update_agent("Assistant", enabled_skills=["tea"])
        await piano.ask("go")
        calls = await piano.tool_calls(piano.thread)

    known = "load_skill" if body == LONG else "none"
    assert [call.result for call in calls] == [
        f"no tool named {name!r}; known: {known}" for name in ("bash", "create_file")
    ]
    assert not {"bash", "create_file"} & {schema["function"]["name"] for schema in model.requests[0].tools}
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("many", [False, True])
async def test_f6_a_turn_keeps_the_version_that_it_began_with_and_the_next_takes_the_new_one(
    write, piano_of, scripted, asks_for, many
):
    path = write("tea/SKILL.md", in_folder("tea", "Boil water."))
    names = ["tea"]
    if many:
        write("cake.md", LONG)
        names.append("cake")

    def change() -> None:
        """Change the skill."""
        path.write_text(in_folder("tea", "Cool water."))

    read = [[asks_for("load_skill", name="tea")]] if many else []
    model = scripted([asks_for("change")], *read, "first", *read, "second")
    async with piano_of(model, tools=[tool(change)]) as piano:
        await piano.update_agent("Assistant", enabled_tools=["change"], enabled_skills=names)
        before = (await piano.skill("tea")).sha
        await piano.ask("one")
        first = [each for each in await piano.messages(piano.thread) if each.role == "assistant"]
        await piano.ask("two")
        second = [each for each in await piano.messages(piano.thread) if each.role == "assistant"][len(first) :]
        after = (await piano.skill("tea")).sha
        kept = await piano.sql("SELECT DISTINCT usage ->> '$.skills.tea' FROM messages WHERE role = 'assistant'")

    texts = [
        next(water for water in ("Boil water.", "Cool water.") if water in str(request.messages[-1 if many else 0]))
        for request in model.requests
        if not many or (request.messages[-1].get("role") == "tool" and "water" in request.messages[-1]["content"])
    ]
    assert before != after
    assert texts == (["Boil water.", "Cool water."] if many else ["Boil water.", "Boil water.", "Cool water."])
    assert {each.usage["skills"]["tea"] for each in first} == {before}
    assert {each.usage["skills"]["tea"] for each in second} == {after}
    assert {row[0] for row in kept} == {before, after}
