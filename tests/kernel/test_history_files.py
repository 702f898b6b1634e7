"""Copies, restoring and deleting as the user says it, in a real kernel."""

import pytest
from store_processes import end_store_process


@pytest.fixture
def kernel(kernel_of):
    """A kernel with the extension loaded, at which somebody sits."""
    return kernel_of(stdin=True).load()


def test_a_history_is_copied_listed_and_restored_after_a_question(kernel, tmp_path):
    kernel.run("%piano thread --new Sales")
    copied = kernel.run("%piano backup")
    kernel.run("%piano thread --new Later")

    listed = kernel.run("%piano restore")
    name = listed.text.splitlines()[-1].split()[0]
    refused = kernel.run(f"%piano restore {name}", answers=["n"])
    restored = kernel.run(f"%piano restore {name}", answers=["y"])
    threads = kernel.run("%piano threads")
    asked = kernel.run("%piano ask hi")

    assert name in copied.text
    assert listed.text.split("\n")[0].split() == ["copy", "made", "MB", "what"]
    assert refused.text == "nothing was changed"
    assert refused.prompts[0].startswith("Put the present history aside and go on with ")
    assert "; what was there before is in " in restored.text
    assert "Sales" in threads.text
    assert "Later" not in threads.text
    assert asked.status == "ok"


def test_a_thread_is_deleted_after_a_question_and_archived_ones_together(kernel):
    for title in ("Sales", "Costs", "Old", "Older"):
        kernel.run(f"%piano thread --new {title}")
    for title in ("Old", "Older"):
        kernel.run(f"%piano thread {title} --archive")

    refused = kernel.run("%piano thread Sales --delete", answers=[""])
    deleted = kernel.run("%piano thread Sales --delete", answers=["yes"])
    purged = kernel.run("%piano threads --archived --purge --yes")
    left = kernel.run("%piano threads --all")

    assert refused.text == "nothing was changed"
    assert refused.prompts == ["Delete the thread 'Sales' from the history and its copies, for good? [y]es / [N]o "]
    assert deleted.text == "the thread 'Sales' is deleted"
    assert (purged.prompts, purged.text) == ([], "2 threads are deleted")
    assert [name for name in ("Sales", "Costs", "Old", "Older") if name in left.text] == ["Costs"]


def test_an_agent_is_renamed_and_deleted_after_a_question(kernel):
    kernel.run("%piano agent ada --model qwen3:8b")

    renamed = kernel.run("%piano agent ada --rename @grace")
    refused = kernel.run("%piano agent grace --delete", answers=[""])
    deleted = kernel.run("%piano agent Grace --delete", answers=["y"])
    left = kernel.run("%piano agents")

    assert "@grace" in renamed.text
    assert (refused.text, refused.prompts) == (
        "nothing was changed",
        ["Delete the agent @grace? What it has written stays. [y]es / [N]o "],
    )
    assert deleted.text == "the agent @grace is deleted"
    assert "Assistant" in left.text
    assert "grace" not in left.text


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("%piano agent Assistant --delete --yes", "'Assistant' is your only agent"),
        ("%piano agent Assistant --rename ada --model m", "--rename and --delete stand alone"),
        ("%piano thread Nobody --delete --yes", "no thread named 'Nobody'"),
        ("%piano thread --delete", "no thread yet"),
        ("%piano thread Sales --delete --archive", "--delete stands alone"),
        ("%piano threads --purge", "only archived threads are deleted together"),
        ("%piano restore none.duckdb --yes", "none.duckdb is not restored: No such file or directory"),
    ],
)
def test_what_cannot_be_deleted_or_restored_says_why(kernel, line, said):
    assert said in kernel.run(line).stream


def test_a_front_end_without_input_is_told_to_say_yes(kernel_of):
    kernel = kernel_of().load()
    kernel.run("%piano thread --new Sales")

    cell = kernel.run("%piano thread Sales --delete")

    assert "nobody can be asked here: Delete the thread 'Sales'" in cell.stream
    assert "Say it again with --yes" in cell.stream
    assert "Sales" in kernel.run("%piano threads").text


def test_a_history_that_cannot_be_opened_is_restored(kernel, tmp_path):
    kernel.run("%piano thread --new Sales")
    copy = kernel.run("%piano backup").text.split()[-1]
    kernel.run("%unload_ext piano_jupyter")
    end_store_process(tmp_path)
    database = next(tmp_path.rglob("piano.duckdb"))
    database.write_bytes(b"x" * 20_000)
    kernel.run("%load_ext piano_jupyter")

    damaged = kernel.run("%piano threads")
    restored = kernel.run(f"%piano restore {copy} --yes")

    assert "is damaged" in damaged.stream
    assert "the history is that of " in restored.text
    assert "Sales" in kernel.run("%piano threads").text
