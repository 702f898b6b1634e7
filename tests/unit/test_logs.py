"""What does not go to the root logger's handlers in a notebook, and what still does."""

import logging
import sys
from contextlib import contextmanager

import httpx
import pytest
from markdown_it import MarkdownIt

from piano_jupyter import logs
from piano_jupyter.text.markdown import code_blocks


@pytest.fixture(autouse=True)
def _everything(caplog):
    caplog.set_level("DEBUG")


@contextmanager
def kept_out_of_cells():  # no fixture: pytest listens to loggers that do not propagate before the test begins
    logs.keep_out_of_cells()
    logs.keep_out_of_cells()
    try:
        yield
    finally:
        logs.let_into_cells()


@contextmanager
def listening(name):
    handler, heard = logging.NullHandler(), []
    handler.handle = heard.append
    logging.getLogger(name).addHandler(handler)
    try:
        yield heard
    finally:
        logging.getLogger(name).removeHandler(handler)


class CellHandler(logging.StreamHandler):
    """Writes to a standard stream, as `logging.basicConfig()` does, and remembers what."""

    def __init__(self):
        super().__init__(sys.stderr)
        self.heard = []

    def emit(self, record):
        self.heard.append(record.getMessage())


@pytest.fixture
def cell():
    handler = CellHandler()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


def test_our_records_go_to_log_files_and_our_own_logger_but_not_to_a_cell(caplog, cell):
    with kept_out_of_cells(), listening("piano_jupyter") as heard:
        logs.logger("piano_jupyter.test").error("hello")
        logging.getLogger("mine").error("shown")

    assert cell.heard == ["shown"]
    assert caplog.messages == ["hello", "shown"]
    assert [record.getMessage() for record in heard] == ["hello"]


def test_a_library_s_records_of_what_it_does_for_us_do_not_go_to_a_cell(caplog, cell):
    with kept_out_of_cells(), listening("markdown_it") as heard:
        code_blocks("a text")

    assert cell.heard == []
    assert "markdown_it.rules_block.paragraph" in [record.name for record in heard]
    assert "markdown_it.rules_block.paragraph" in [record.name for record in caplog.records]


def test_a_library_s_records_of_the_user_s_own_work_are_as_always(caplog):
    with kept_out_of_cells():
        MarkdownIt().render("a text")
        with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(204))) as client:
            client.get("http://example.com")

    assert "markdown_it.rules_block.paragraph" in [record.name for record in caplog.records]
    assert [record.name for record in caplog.records].count("httpx") == 1


def test_after_unloading_all_is_as_before(caplog):
    with kept_out_of_cells():
        pass
    logs.logger("piano_jupyter.test").error("hello")
    code_blocks("a text")

    assert {record.name.partition(".")[0] for record in caplog.records} == {"piano_jupyter", "markdown_it"}
