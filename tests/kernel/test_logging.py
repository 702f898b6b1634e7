"""logging.basicConfig() in a cell: what lands there, and how one gets Piano's log."""

import pytest


@pytest.fixture
def logging_kernel(kernel_of):
    kernel = kernel_of()
    kernel.run("import logging; logging.basicConfig(level=logging.DEBUG)")
    return kernel


def test_an_ask_leaves_no_log_lines_in_a_cell_that_did_not_ask_for_them(logging_kernel, stub_model):
    stub_model.says("It is **42**.")

    loaded = logging_kernel.run("%load_ext piano_jupyter")
    asked = logging_kernel.run("%%piano\nHow much?")
    others = logging_kernel.run("logging.info('mine')")

    assert "42" in asked.text
    assert (loaded.stream, asked.stream) == ("", "")
    assert others.stream == "INFO:root:mine\n"


def test_a_piano_of_one_s_own_leaves_none_either(logging_kernel, stub_model):
    stub_model.says("hello")

    asked = logging_kernel.run(
        "from piano_jupyter import Piano\n"
        "async with Piano(database=':memory:') as mine:\n    print((await mine.ask('hi')).content)"
    )

    assert asked.stream == "hello\n"


def test_a_handler_on_piano_s_logger_gets_each_step(logging_kernel, stub_model):
    stub_model.says("hello")
    logging_kernel.load()
    logging_kernel.run(
        "logging.getLogger('piano_jupyter').addHandler(logging.FileHandler('piano.log'))\n"
        "logging.getLogger('piano_jupyter').setLevel(logging.DEBUG)"
    )

    logging_kernel.run("%%piano\nhi")
    lines = (logging_kernel.folder / "piano.log").read_text().splitlines()

    steps = ["queued", "started", "model asked", "first token", "answered", "acked", "done"]
    assert [line.split("): ")[1].split(":")[0] for line in lines if line.startswith("job ")] == steps


def test_httpx_in_a_cell_logs_as_always(logging_kernel, stub_model):
    logging_kernel.load()

    asked = logging_kernel.run(f"import httpx; _ = httpx.get({stub_model.url + '/models'!r})")

    assert "INFO:httpx:HTTP Request: GET" in asked.stream
