"""What must be documented is, and the map tells the truth."""

import ast
import re
import tomllib
from inspect import iscoroutinefunction
from pathlib import Path

import ipywidgets
import pytest

import piano_jupyter
from piano_jupyter import events
from piano_jupyter.config import PianoConfig
from piano_jupyter.jupyter.magic.catalog import COMMANDS
from piano_jupyter.jupyter.magic.manual import DOCS, topics
from piano_jupyter.jupyter.panel.widget import ChatPanel
from piano_jupyter.piano import Piano
from piano_jupyter.runner.skills.skill_registry import SkillRegistry
from piano_jupyter.runner.tools.tool_registry import ToolRegistry

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MANUAL = {topic: (DOCS / f"{topic}.md").read_text(encoding="utf-8") for topic in topics()}
MARKDOWN = {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", *(f"piano_jupyter/docs/{topic}.md" for topic in MANUAL)}
KINDS = {name: each for name, each in vars(events).items() if isinstance(each, type) and issubclass(each, events.Event)}
EVENTS = [
    name for name, kind in KINDS.items() if not kind.__subclasses__()
]  # what is published, not their base classes


@pytest.mark.parametrize("name", sorted(PianoConfig.class_trait_names(config=True)))
def test_each_setting_is_in_the_manual(name):
    assert re.search(rf"^\| `{name}` \|", MANUAL["settings"], re.MULTILINE)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_sub_command_is_in_the_manual_with_its_options(name):
    row = re.search(rf"^\| `%piano {name}\b.*", MANUAL["commands"], re.MULTILINE)

    assert row
    assert all(option in row[0] for option in COMMANDS[name].options)


def test_each_verb_is_in_the_manual_and_none_that_is_gone():
    verbs = {name for name, thing in vars(Piano).items() if callable(thing) and not name.startswith("_")}
    told = MANUAL["python-api"].split("The verbs:", 1)[1].split("\n## ", 1)[0]

    assert set(re.findall(r"`(\w+)`", told)) == verbs - {"open", "close", "close_now"}


def test_the_manual_names_the_verbs_that_are_no_coroutines():
    plain = {name for name in vars(Piano) if not name.startswith("_") and not iscoroutinefunction(getattr(Piano, name))}
    told = re.search(r"Every verb is a coroutine, but for (.*), which answer at once", MANUAL["python-api"])[1]

    assert set(re.findall(r"`(\w+)`", told)) == plain - {
        "close_now",
        "is_open",
        "stand_in",
        "stopped",
        "thread",
        "trusted",
    }


@pytest.mark.parametrize(
    ("registry", "verbs"),
    [(ToolRegistry, {"list_available", "get_tools"}), (SkillRegistry, {"list_available", "load_skill", "get_prompts"})],
)
def test_the_lookups_of_each_registry_are_there_and_in_the_manual(registry, verbs):
    told = MANUAL["python-api"].split(f"`{registry.__name__}` with", 1)[1].split("`Skill", 1)[0].split("\n", 1)[0]

    assert set(re.findall(r"`(\w+)", told)) == verbs
    assert all(getattr(registry, verb).__doc__ for verb in verbs)


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_each_event_is_in_the_manual(name):
    assert re.search(rf"^\| `{name}` \|", MANUAL["lifecycle-events"], re.MULTILINE)


@pytest.mark.parametrize("name", sorted(error for error in dir(piano_jupyter.errors) if error.endswith("Error")))
def test_each_error_is_in_the_tree(name):
    assert re.search(rf"[*x-] {name}\n", piano_jupyter.errors.__doc__)


def test_the_manual_names_nothing_that_is_gone():
    first = re.compile(r"^\| `(?:%piano )?(\w+)", re.MULTILINE)

    assert set(first.findall(MANUAL["commands"])) == set(COMMANDS)
    assert set(first.findall(MANUAL["settings"])) == set(PianoConfig.class_trait_names(config=True))
    assert set(first.findall(MANUAL["lifecycle-events"])) == set(EVENTS)
    shown = "\n".join([README, *MANUAL.values()])
    assert set(re.findall(r"(?:^|`)%piano ([a-z_]+)", shown, re.MULTILINE)) <= set(COMMANDS)
    assert set(re.findall(r"PianoConfig\.(\w+)", shown)) <= set(PianoConfig.class_trait_names(config=True))
    assert set(re.findall(r"%piano help ([a-z-]+)", shown)) <= set(MANUAL)


def test_the_manual_ships_with_the_package():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = settings["tool"]["hatch"]["build"]["targets"]["wheel"]

    assert DOCS.parent == Path(piano_jupyter.__file__).parent
    assert wheel["packages"] == ["piano_jupyter"]
    assert not {"exclude", "include", "only-include"} & set(wheel), "all files of the package go into the wheel"


def test_the_readme_is_a_front_door():
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("topic", MANUAL)
def test_each_topic_begins_with_a_sentence_that_the_readme_has_in_its_table(topic):
    title, nothing, sentence, *_ = MANUAL[topic].splitlines()

    assert title.startswith("# ")
    assert nothing == ""
    assert f"| [{topic}](piano_jupyter/docs/{topic}.md) | {sentence} |" in README


@pytest.mark.parametrize("name", sorted(MARKDOWN))
def test_every_link_leads_somewhere(name):
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", prose) if not link.startswith("https://")]

    lost = [link for link in links if not (ROOT / name).parent.joinpath(link).is_file()]

    assert lost == []


def test_the_two_commands_of_the_readme_are_those_that_ci_runs():
    first, second, *_ = re.findall(r"```bash\n(.*?)\n```", README, re.DOTALL)
    (install, ask), (install_all, check) = first.split(" && "), second.split(" && ")
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")

    assert install.removeprefix("pip ") in run.replace("install -q", "install")
    assert ask.removeprefix("python ") in run
    assert install_all.removeprefix("pip ") in run.replace("install -q", "install")
    assert check == "pytest"
    assert "`python -m piano_jupyter --lab`" in README


def test_the_map_in_the_package_docstring_is_the_import_contract():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = next(each for each in settings["tool"]["importlinter"]["contracts"] if each["id"] == "layers")

    drawn = re.findall(r"^    ([\w |]+?)  ", piano_jupyter.__doc__, re.MULTILINE)

    assert drawn == contract["layers"]


def test_the_public_names_are_these():
    assert piano_jupyter.__all__ == [
        "Agent",
        "Batch",
        "BatchPlan",
        "BatchStatus",
        "Job",
        "JobStatus",
        "Message",
        "Notebook",
        "Piano",
        "PianoConfig",
        "PianoError",
        "Rows",
        "Thread",
        "Tool",
        "ToolCall",
        "load_ipython_extension",
        "tool",
        "unload_ipython_extension",
    ]
    assert all(getattr(piano_jupyter, name) for name in piano_jupyter.__all__)
    assert set(piano_jupyter.__all__) <= set(dir(piano_jupyter))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        piano_jupyter.nothing  # noqa: B018


def test_each_module_says_what_it_is_in_its_first_line():
    silent = [
        str(path)
        for path in (ROOT / "piano_jupyter").rglob("*.py")
        if (text := path.read_text(encoding="utf-8")) and not re.match(r'r?"""\S', text)
    ]

    assert silent == []


def test_what_one_sees_when_something_is_wrong_is_said_as_the_manual_has_it():
    said = "\0".join(
        node.value
        for path in (ROOT / "piano_jupyter").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    rows = re.findall(r"^\|[^|]+\|([^|]+)\|", MANUAL["trouble"], re.MULTILINE)
    quoted = [each for row in rows for each in re.findall(r"`([^`]+)`", row)]
    parts = [part for each in quoted for part in re.split(r"[…()]|\bqwen3:8b|\bbash\b|http://\S+|\d[\d,]*", each)]

    unsaid = [part for part in parts if len(part.strip()) > 3 and part.strip() not in said]

    assert len(quoted) > 25
    assert unsaid == []


#: what speaks with servers, and may name them: the wire with its parts, the prompt, llama-swap, the embedded model
SPEAKS_WITH_SERVERS = {
    *("reply_reader", "sse", "tool_calls", "lenient_json", "text_tool_calls", "reasoning", "usage", "error_responses"),
    *(
        "prompt",
        "control_tokens",
        "swap_client",
        "event_stream",
        "model_list",
        "model_state_cache",
        "transport",
        "model_properties",
    ),
    *("local_server", "local_server_main", "weights"),
}
SERVERS_AND_MODELS = re.compile(
    r"llama|vllm|smollm|qwen|mistral|deepseek|gemini|gemma|moonshot|kimi|minimax|zhipu|groq|openrouter|lm.?studio"
    r"|sglang|litellm|cerebras|anthropic|claude|\bgpt|\bphi-?\d"
    r"|openai(?!-compatible| (?:chat )?API|\.com/docs)",  # the API has its name from there
    re.IGNORECASE,
)


def test_no_server_and_no_model_is_named_but_where_piano_speaks_with_servers():
    examples = re.compile(
        r"\brunner\.model\.llama_swap\b|qwen3:\d+b|\.(?:claude|gemini|kimi|qwen)\b|(?:CLAUDE(?:\.local)?|GEMINI|QWEN)\.md"
        r"|gptme\.toml|\|claude\|gemini\b"
    )  # a user's models, in a default and examples; file names
    named = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in (ROOT / "piano_jupyter").rglob("*.py")
        if "runner" not in path.relative_to(ROOT).parts or path.stem not in SPEAKS_WITH_SERVERS
        for line in path.read_text(encoding="utf-8").splitlines()
        if SERVERS_AND_MODELS.search(examples.sub("", line))
    ]

    assert named == []


def test_every_package_that_is_declared_is_used():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "piano_jupyter").rglob("*.py"))
    imported = set(re.findall(r"^\s*(?:from|import) (\w+)", code, re.MULTILINE))
    modules = {"pyyaml": "yaml", "markdown-it-py": "markdown_it", "ipython": "IPython"}
    declared = {re.match(r"[\w-]+", each)[0] for each in settings["dependencies"]}

    unused = {name for name in declared if modules.get(name, name.replace("-", "_")) not in imported}

    assert unused == {"ipykernel", "ipywidgets"}  # the kernel that runs it all, and what the panel is made of:
    assert issubclass(ChatPanel, ipywidgets.DOMWidget)
