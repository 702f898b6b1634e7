"""The history is deleted, moved or cannot be written while the kernel runs."""

import shutil

import pytest


@pytest.fixture
def talking(kernel, stub_model):
    stub_model.says("first answer")
    kernel.run("%%piano\nfirst question")
    return kernel


def test_a_history_that_is_deleted_under_the_kernel_goes_on_in_a_copy_and_says_so(talking, stub_model):
    shutil.rmtree(talking.folder / ".piano")
    stub_model.says("second answer")

    asked = talking.run("%%piano\nsecond question")
    status = talking.run("%piano status --all").text
    history = talking.run("%piano history").text

    (recovered,) = (talking.folder / ".piano").glob("piano-recovered-*.duckdb")
    shown = " ".join(asked.stream.split())
    assert "was deleted; everything in it was saved to" in shown
    assert recovered.name in shown.replace(" ", "")
    assert recovered.name in status
    assert [text in history for text in ("first question", "first answer", "second answer")] == [True] * 3


def test_the_copy_can_be_made_the_history_again(talking, kernel_of):
    (talking.folder / ".piano").rename(talking.folder / "moved")
    talking.run("%piano")
    (recovered,) = (talking.folder / ".piano").glob("piano-recovered-*.duckdb")
    talking.end()

    following = kernel_of().load()
    empty = following.run("%piano threads").text
    restored = following.run(f"%piano restore --yes {recovered}")

    assert "first question" not in empty
    assert restored.status == "ok"
    assert "first question" in following.run("%piano threads").text
