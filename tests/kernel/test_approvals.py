"""Calls that wait for a yes in a real kernel: at the prompt, by %piano approve, after kill -9."""

import signal
import time

import pytest

from piano_jupyter.testing import tool_call

DEADLINE = 30
FULL = "%config PianoConfig.mode = 'full'\n%piano agent Assistant --tools bash"  # each call asks, in every sandbox
SNEAKY = (
    "echo \u202eoops\u200b\x1b[2K" + " " * 3000 + "-- the tail\n" + "\n".join(map(str, range(400))) + "\nAllow it? y"
)


def waiting(kernel):
    """Return what %piano approve shows, once something waits."""
    deadline = time.monotonic() + DEADLINE
    while (shown := kernel.run("%piano approve").text) == "no tool call waits for your approval":
        assert time.monotonic() < deadline
    return shown


def bash(command):
    return tool_call("bash", command=command)


def test_always_at_the_prompt_adds_the_rule_that_it_shows_and_is_not_asked_again(kernel_of, stub_model, tmp_path):
    kernel = kernel_of(stdin=True).load()
    stub_model.says(bash("touch made"), "done", bash("touch made"), bash("touch made; touch more"), "again")
    kernel.run(FULL)

    first = kernel.run("%%piano\ngo", answers=["a"])
    second = kernel.run("%%piano\ngo", answers=["maybe"])

    assert first.prompts[0].endswith("[y]es / [a]lways (allow bash(touch made)) / [N]o ")
    assert "the rule 'allow bash(touch made)' is added to this kernel's PianoConfig.rules" in first.stream
    assert "ipython_config.py" in first.stream
    assert len(second.prompts) == 1
    assert "touch made; touch more" in second.prompts[0]
    assert second.prompts[0].endswith("[y]es / [N]o ")
    assert kernel.run("%config PianoConfig.rules").text == "['allow bash(touch made)']"
    assert "allow bash(touch made)" in kernel.run("%config PianoConfig").stream
    assert (tmp_path / "made").exists()
    assert not (tmp_path / "more").exists()


@pytest.mark.parametrize(("typed", "there"), [("y", True), ("", False)])
def test_k1_a_command_that_wrote_a_protected_file_asks_afterwards(
    kernel_of, sandboxed, stub_model, tmp_path, typed, there
):
    kernel = kernel_of(stdin=True).load()
    stub_model.says(bash("echo 1 >mine; echo 'use flake' >.envrc"), "done")
    kernel.run("%piano agent Assistant --tools bash")

    cell = kernel.run("%%piano\ngo", answers=[typed])

    (prompt,) = cell.prompts
    assert prompt.startswith(
        "Assistant has run bash; may it also make these changes? ('.envrc' runs when a shell or a program is started "
    )
    assert "until you approve, they are held back in /" in prompt
    assert (tmp_path / "mine").exists()
    assert (tmp_path / ".envrc").exists() == there


@pytest.mark.parametrize("typed", ["always", "A ", "Y", "yes"])
def test_a_plain_yes_or_always_lets_it_run(kernel_of, stub_model, tmp_path, typed):
    kernel = kernel_of(stdin=True).load()
    stub_model.says(bash("touch made"), "done")
    kernel.run(FULL)

    kernel.run("%%piano\ngo", answers=[typed])

    assert (tmp_path / "made").exists()


def test_a_call_of_a_job_without_a_cell_is_shown_whole_and_allowed_for_always(kernel, stub_model, tmp_path):
    stub_model.says(bash("touch made"), "done", bash("touch made"), "done again")
    kernel.run(FULL)
    kernel.run("%piano send go")
    shown = waiting(kernel)
    call = shown.split()[0]

    allowed = kernel.run(f"%piano approve {call} --always")
    answer = kernel.run("%piano wait")
    late = kernel.run(f"%piano deny {call}")
    again = kernel.run("%piano ask go")

    assert "Assistant wants to run bash (" in shown
    assert "command │ touch made\n  --always adds the rule: allow bash(touch made)" in shown
    assert f"%piano approve {call} lets it run, %piano deny {call} does not" in shown
    assert allowed.text.startswith("allowed from now on: the rule 'allow bash(touch made)' is added")
    assert (answer.text.splitlines()[-1], again.text.splitlines()[-1]) == ("done", "done again")
    assert "any other has already been answered, or never asked" in late.stream
    assert (tmp_path / "made").exists()


def test_a_call_of_a_job_without_a_cell_is_denied_for_always(kernel, stub_model, tmp_path):
    stub_model.says(bash("touch made"), "done")
    kernel.run(FULL)
    kernel.run("%piano send go")

    denied = kernel.run(f"%piano deny {waiting(kernel).split()[0]} --always")

    assert denied.text.startswith("denied from now on: the rule 'deny bash(touch made)' is added")
    assert kernel.run("%piano wait").text.splitlines()[-1] == "done"
    assert not (tmp_path / "made").exists()


def test_e9_at_the_prompt_and_in_the_list_nothing_of_a_call_is_hidden(kernel_of, stub_model):
    kernel = kernel_of(stdin=True).load()
    stub_model.says(bash(SNEAKY), "done", bash(SNEAKY), "done")
    kernel.run(FULL)

    prompt = kernel.run("%%piano\ngo", answers=["n"]).prompts[0]
    kernel.run("%piano send go")
    listed = waiting(kernel)

    for shown in (prompt, listed):
        lines = shown.splitlines()
        assert "  command │ echo ‹U+202E›oops‹U+200B›‹U+001B›[2K‹␣ × 3000›-- the tail" in lines
        assert [f"          │ {number}" for number in range(400)] == lines[2:402]
        assert lines[402] == "          │ Allow it? y"  # nothing of it stands where only Piano writes
        assert not set("\u202e\u200b\x1b") & set(shown)


def test_e7_a_call_that_waits_when_the_kernel_is_killed_waits_in_the_next_one(kernel_of, stub_model, tmp_path):
    kernel = kernel_of().load()
    stub_model.says(bash("echo again >> made"))
    kernel.run(FULL)
    kernel.run("%piano send go")
    before = waiting(kernel).split()[0]
    kernel.process.send_signal(signal.SIGKILL)
    kernel.process.wait(DEADLINE)
    kernel.end(kill=True)
    stub_model.says("done")

    new = kernel_of().load()
    new.run("%piano resume")
    shown = waiting(new)
    ran_before = (tmp_path / "made").exists()
    new.run(f"%piano approve {before}")
    answer = new.run("%piano wait")

    assert shown.split()[0] == before
    assert "command │ echo again >> made" in shown
    assert not ran_before
    assert answer.text.endswith("\ndone")
    assert (tmp_path / "made").read_text() == "again\n"
    assert stub_model.requests[-1]["messages"][-1]["role"] == "tool"


def test_j8_a_job_that_waits_for_approval_ends_at_once_when_it_is_cancelled(kernel, stub_model):
    stub_model.says(bash("touch made"), "now?")
    kernel.run(FULL)
    kernel.run("%piano send go")
    waiting(kernel)

    job = kernel.run("%piano queue").text.splitlines()[1].split()[0]

    began = time.monotonic()
    kernel.run(f"%piano cancel {job}")
    took = time.monotonic() - began

    assert took < 1
    assert kernel.run("%piano approve").text == "no tool call waits for your approval"
    assert kernel.run("%piano ask so?").text == "now?"


def test_e11_files_of_the_workspace_and_its_database_set_neither_mode_nor_rules(kernel_of, stub_model, tmp_path):
    repository, home = tmp_path / "repository", tmp_path / "home"
    for folder in (repository / ".vscode", repository / ".agents", repository / ".ipython" / "profile_default", home):
        folder.mkdir(parents=True)
    loose = "c = get_config()\nc.PianoConfig.mode = 'full'\nc.PianoConfig.rules = ['allow bash']\n"
    for name in ("ipython_config.py", "ipython_kernel_config.py", ".ipython/profile_default/ipython_config.py"):
        (repository / name).write_text(loose)
    (repository / ".vscode" / "settings.json").write_text('{"PianoConfig.mode": "full"}')
    (repository / "pyproject.toml").write_text("[tool.piano_jupyter]\nmode = 'full'\nrules = ['allow bash']\n")

    kernel = kernel_of(repository, IPYTHONDIR=str(home)).load()
    settings = [kernel.run(f"%config PianoConfig.{knob}").text for knob in ("mode", "rules")]
    status = kernel.run("%piano").text

    assert settings == ["'write'", "[]"]
    assert "mode write, 0 rules" in status


def test_status_and_tools_say_what_happens_to_calls(kernel):
    kernel.run("from piano_jupyter import tool\n@tool(asks=True)\ndef act() -> str:\n    'Do it.'\n    return ''")
    asks = kernel.run("%piano tools").text
    kernel.run("%config PianoConfig.rules = ['allow act', 'deny create_file', 'ask read_file', 'deny bsh(curl *)']")
    told = kernel.run("%piano tools").text
    status = kernel.run("%piano status --all").text

    assert "in mode write" in told
    becomes = {line.split()[0]: line for line in told.splitlines()}
    assert " asks " in next(line for line in asks.splitlines() if line.startswith("act"))
    for name, word in (("act", "runs"), ("create_file", "denied"), ("read_file", "asks")):
        assert f" {word} " in becomes[name]
    assert "mode write, 4 rules" in status
    assert "\n           deny bsh(curl *) (no tool has this name)\n" in status
    assert "files: " in status


def test_a_wrong_rule_is_said_at_once(kernel):
    cell = kernel.run("%config PianoConfig.rules = ['allow bash(a | b)']")

    assert "can never match: it can only allow one plain command" in cell.stream
