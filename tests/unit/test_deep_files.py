"""What is nested too deeply ends in a sentence, wherever it comes from: row A24 of the list of bad inputs."""

import ast
import json
import re
from contextlib import suppress
from pathlib import Path

import pytest

import piano_jupyter
from piano_jupyter.errors import PianoError, SkillError
from piano_jupyter.export.jsonl import from_jsonl
from piano_jupyter.jupyter.magic.commands.agents import request_options
from piano_jupyter.jupyter.magic.options import missing_percent
from piano_jupyter.jupyter.magic.schema_option import schema_named
from piano_jupyter.runner.model.cassette import Cassette
from piano_jupyter.runner.schema.response_format import response_format_of
from piano_jupyter.runner.skills.front_matter import parse
from piano_jupyter.secrets.known_secrets import own_secrets
from piano_jupyter.store.duckdb.recovery import REPORT, finish_recovery, last_told
from piano_jupyter.text.expressions import parse_expression
from piano_jupyter.text.json_text import json_or_none, parse_json
from piano_jupyter.variables.fill_in import fill_in
from piano_jupyter.variables.variable_access import look_up

DEPTHS = [500, 990, 100_000]
HEAD = '{"piano_cassette": 1, "recorded_at": "2026-01-01T00:00:00+00:00"}\n'

#: Files of the package that parse what Piano has just written, or catch the error themselves.
OWN_PARSERS = {
    "runner/model/embedded/local_server.py",
    "runner/model/embedded/local_server_main.py",
    "runner/model/stream/constrained_calls.py",
    "runner/model/stream/lenient_json.py",
    "runner/schema/response_format.py",
    "runner/schema/schema_check.py",
    "runner/tools/files/file_tools.py",
    "store/duckdb/codec.py",
    "store/duckdb/query_guard.py",
    "testing/scripted_server.py",
    "text/json_text.py",
}


@pytest.mark.parametrize("depth", DEPTHS)
def test_a24_a_file_that_is_nested_too_deeply_is_refused_in_a_sentence(tmp_path, depth):
    deep = "[" * depth + "]" * depth
    file = tmp_path / "file.json"

    file.write_text(f'{HEAD}{{"request": {{"body": {deep}}}, "response": {{}}}}\n')
    with pytest.raises(PianoError, match=r"is not a cassette .it is nested too deeply"):
        Cassette(file, recording=False)
    for line in (f'{{"messages": [{{"role": "user", "content": {deep}}}]}}', f'{{"role": "user", "x": {deep}}}'):
        with pytest.raises(PianoError, match=r"line 1: not JSON that can be read .it is nested too deeply"):
            from_jsonl(line)
    file.write_text(f'{{"type": "object", "properties": {deep}}}')
    with pytest.raises(PianoError, match=r"is not JSON|schema is wrong|nested too deeply"):
        response_format_of(file, tmp_path)
    for front in (f"name: {deep}", "name:\n " + "- " * depth, "? " * depth):
        with suppress(SkillError):
            assert isinstance(parse(front), dict)
    Path(f"{tmp_path}/db{REPORT}").write_text(deep)
    with pytest.raises(PianoError, match="is no report of a recovery"):
        finish_recovery(str(tmp_path / "db"))
    assert last_told(deep.encode()) == {}
    (tmp_path / "jpserver-1.json").write_text(f'{{"token": "{"t" * 40}", "x": {deep}}}')
    assert own_secrets({}, tmp_path) == {}


@pytest.mark.parametrize("depth", DEPTHS)
def test_a24_an_option_or_an_expression_that_is_nested_too_deeply_is_refused_in_a_sentence(depth):
    expressions = ["a" + ".real" * depth, "a" + "[0]" * depth, "-" * depth + "1"]

    with pytest.raises(PianoError, match="looks like JSON but is not valid"):
        request_options(None, f"x={'[' * depth}{']' * depth}")
    for expression in expressions:
        with pytest.raises(PianoError, match="is not a name: it is nested too deeply"):
            look_up(expression, {"a": 1})
        with pytest.raises(PianoError, match="is not a schema"):
            schema_named(expression, {"a": 1})
        with pytest.raises(PianoError, match="a name can stand there"):
            fill_in(f"{{{{{expression}}}}}", {"a": 1})
        assert missing_percent([f"piano ask {expression}"])


def test_a24_control_without_a_limit_each_parser_fails():
    with pytest.raises(RecursionError):
        json.loads("[" * 100_000 + "]" * 100_000)
    with pytest.raises((RecursionError, MemoryError)):
        ast.parse("-" * 100_000 + "1", mode="eval")


def test_a24_what_is_nested_less_deeply_is_read(tmp_path):
    body = "[" * 200 + "]" * 200
    (tmp_path / "talk.jsonl").write_text(f'{HEAD}{{"request": {{"body": {body}}}, "response": {{"status": 200}}}}\n')

    found = Cassette(tmp_path / "talk.jsonl", recording=False).find({"body": parse_json(body)})

    assert found == {"status": 200}
    assert json_or_none(f"[{body}]") is None
    assert look_up("a" + ".real" * 50, {"a": 1}) == 1
    assert parse_expression(" a.b ")


def test_json_from_elsewhere_is_parsed_only_by_functions_that_limit_its_depth():
    package = Path(piano_jupyter.__file__).parent
    parsers = {
        file.relative_to(package).as_posix()
        for file in package.rglob("*.py")
        if re.search(r"\bjson\.loads?\(|\.json\(\)", file.read_text(encoding="utf-8"))
    }

    assert parsers == OWN_PARSERS
