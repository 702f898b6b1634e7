"""The embedded model: real processes, real HTTP; only its weights are tiny."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress

import psutil
import pytest
from waiting import until

from piano_jupyter.errors import ModelUnavailableError
from piano_jupyter.runner.model.embedded.local_server import Endpoint, LocalServer

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("llama_cpp")]

SENTENCE = "All is well on this tiny server."
QUESTION = {"messages": [{"role": "user", "content": "How are you?"}]}

# A kernel in short: it starts the server, says where, and stays; `fork` leaves a child that holds what it has open.
PARENT = """
import asyncio, os, pathlib, sys, time
from piano_jupyter.runner.model.embedded.local_server import LocalServer

server = LocalServer(pathlib.Path(sys.argv[1]), context=2048)
endpoint = asyncio.run(server.start(lambda line, fraction: None))
if sys.argv[2] == "fork" and os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
print(endpoint.url, endpoint.api_key, flush=True)
time.sleep(60)
"""


def quiet(_line, _fraction):
    """Take no notice of progress."""


def post(endpoint, body=None, *, path="/v1/chat/completions", key=None):
    url = endpoint.url.removesuffix("/v1") + path
    headers = {"Authorization": f"Bearer {endpoint.api_key if key is None else key}"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=30) as answer:
        return json.load(answer)


def said(endpoint, **question):
    return post(endpoint, {**QUESTION, **question})["choices"][0]["message"]["content"]


def answers(endpoint):
    with suppress(urllib.error.URLError, ConnectionError):
        return post(endpoint, path="/health") == {"status": "ok"}
    return False


def servers():
    """Return the processes of embedded models that are ours."""
    ours = psutil.Process().children()
    return [each for each in ours if any("local_server_main" in word for word in _command(each))]


def _command(process):
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return process.cmdline()
    return []


@pytest.fixture
def local(tiny_gguf):
    server = LocalServer(tiny_gguf, context=2048, alias="tiny")
    yield server
    server.stop()


@pytest.fixture
def hanging_gguf(tmp_path):
    """A file whose opening never ends: a pipe that nobody writes to."""
    os.mkfifo(tmp_path / "tiny.gguf")
    return tmp_path / "tiny.gguf"


def test_a_started_server_answers_over_http_under_its_name(tiny_server):
    answer = post(tiny_server, QUESTION)

    assert answer["choices"][0]["message"]["content"] == SENTENCE
    assert (answer["model"], tiny_server.model) == ("tiny", "tiny")


def test_a_wrong_key_is_refused(tiny_server):
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(tiny_server, QUESTION, key="guessed")

    with refused.value as answer:
        assert (answer.code, json.load(answer)["error"]["type"]) == (401, "authentication_error")


def test_the_server_reports_whether_its_template_has_tools(tiny_server, serve_tiny, tiny):
    with_tools = serve_tiny(chat_template=tiny.TOOLS, says="Hi.")

    told = [post(each, path="/props")["chat_template_caps"]["supports_tools"] for each in (tiny_server, with_tools)]
    assert told == [False, True]


def test_a_model_with_tools_calls_one_and_answers_its_result(serve_tiny, tiny):
    call = '<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": 3}}\n</tool_call>'
    endpoint = serve_tiny(chat_template=tiny.TOOLS, says=call, says_after_tool="The sum is five.")
    numbers = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
    tools = [{"type": "function", "function": {"name": "add", "description": "Add.", "parameters": numbers}}]

    asked = post(endpoint, {**QUESTION, "tools": tools})["choices"][0]["message"]
    result = {"role": "tool", "tool_call_id": asked["tool_calls"][0]["id"], "content": "5"}
    answer = said(endpoint, messages=[*QUESTION["messages"], asked, result], tools=tools)

    assert json.loads(asked["tool_calls"][0]["function"]["arguments"]) == {"a": 2, "b": 3}
    assert answer == "The sum is five."


def test_an_answer_without_a_limit_ends_all_the_same(serve_tiny):
    babbler = serve_tiny()

    answer = post(babbler, QUESTION)

    assert (answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]) == ("length", 512)


def test_the_same_question_gets_the_same_answer(serve_tiny):
    babbler = serve_tiny()

    answers = {said(babbler, max_tokens=40) for _ in range(3)}

    assert len(answers) == 1


async def test_the_server_keeps_to_itself(local):
    before = servers()
    endpoint = await local.start(quiet)

    (process,) = (each for each in servers() if each not in before)
    seen_by_others = [*process.cmdline(), *process.environ().values()]
    assert process.environ()["OMP_WAIT_POLICY"] == "passive", "its threads would spin while they wait"
    assert process.environ()["PATH"] == os.defpath, "it would run a debugger from anywhere"
    assert not any(endpoint.api_key in word for word in seen_by_others)
    assert {each.laddr.ip for each in process.net_connections()} == {"127.0.0.1"}
    assert os.getsid(process.pid) != os.getsid(0), "the terminal's Ctrl-C would reach it"


async def test_callers_at_the_same_time_share_one_process(local):
    before = len(servers())

    endpoints = await asyncio.gather(*(local.start(quiet) for _ in range(5)), local.start(quiet))

    assert len(servers()) - before == 1
    assert len({each.url for each in endpoints}) == 1


async def test_a_caller_that_gives_up_does_not_stop_the_start_for_others(local):
    impatient = asyncio.create_task(local.start(quiet))
    patient = asyncio.create_task(local.start(quiet))
    await asyncio.sleep(0)
    impatient.cancel()

    assert answers(await patient)


async def test_a_stopped_server_is_gone_and_can_be_started_again(local):
    first = await local.start(quiet)

    local.stop()
    local.stop()
    gone = not answers(first)
    second = await local.start(quiet)

    assert gone
    assert said(second) == SENTENCE


async def test_a_server_that_died_is_started_again(local):
    before = servers()
    first = await local.start(quiet)
    (process,) = (each for each in servers() if each not in before)
    process.kill()
    process.wait(30)

    second = await local.start(quiet)

    assert said(second) == SENTENCE
    assert second.api_key != first.api_key


async def test_a_stop_while_it_starts_ends_the_start(hanging_gguf):
    local = LocalServer(hanging_gguf)
    starting = asyncio.create_task(local.start(lambda _line, _fraction: local.stop()))

    with pytest.raises(ModelUnavailableError, match="tiny was stopped while it started"):
        await starting


async def test_a_start_that_takes_too_long_is_given_up(hanging_gguf):
    before = len(servers())

    with pytest.raises(ModelUnavailableError, match=r"tiny did not start within 0\.2 seconds"):
        await LocalServer(hanging_gguf, start_timeout=0.2).start(quiet)

    assert len(servers()) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are what is tested")
@pytest.mark.parametrize("leaves", ["nothing", "fork"])
def test_the_server_ends_when_its_parent_is_killed(tiny_gguf, leaves):
    command = [sys.executable, "-c", PARENT, str(tiny_gguf), leaves]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        try:
            url, key = parent.stdout.readline().split()
            endpoint = Endpoint(url=url, api_key=key)
            was_up = answers(endpoint)
        finally:
            parent.send_signal(signal.SIGKILL)

        assert was_up
        until(lambda: not answers(endpoint))


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"GIF89a and more", "invalid magic"), (None, "failed to open GGUF file")],
    ids=["not a model", "no file"],
)
async def test_a_file_that_cannot_be_loaded_is_reported_in_the_servers_words(tmp_path, content, words):
    gguf = tmp_path / "odd.gguf"
    if content:
        gguf.write_bytes(content)

    with pytest.raises(ModelUnavailableError, match=f"odd did not start: .*{words}"):
        await LocalServer(gguf).start(quiet)


async def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "xllamacpp", None)

    with pytest.raises(ModelUnavailableError, match=r"pip install 'piano_jupyter\[local\]'"):
        await LocalServer(folder=tmp_path).start(quiet)


def test_the_embedded_model_knows_a_capital(embedded_server):
    system = {"role": "system", "content": "You are a helpful assistant."}
    question = {"role": "user", "content": "What is the capital of France?"}

    assert "Paris" in said(embedded_server, messages=[system, question])
