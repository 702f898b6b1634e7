"""Record and replay."""

import gzip
import json

import pytest

from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import ModelError, PianoError
from piano_jupyter.runner.model.cassette import Cassette
from piano_jupyter.runner.model.client import ChatClient
from piano_jupyter.runner.model.embedded.local_server import Endpoint
from piano_jupyter.runner.model.llama_swap.swap_client import SwapClient
from piano_jupyter.runner.model.protocol import ChatRequest


@pytest.fixture
async def ask_through(stub):
    clients = []

    def make(cassette, url=None):
        async def connect():
            return Endpoint(url=url or stub.url, api_key="secret-key")

        config = PianoConfig(request_retries=0)
        swap = SwapClient(connect, config, cassette.wrap)
        client = ChatClient(connect, config, cassette.wrap, swap)
        clients.extend([client, swap])

        async def ask(text):
            request = ChatRequest(model="m", messages=[{"role": "user", "content": text}])
            return [piece async for piece in client.stream(request)][-1].text

        ask.client = client
        return ask

    yield make
    for client in clients:
        await client.aclose()


@pytest.fixture
async def recorded(stub, speak, ask_through, tmp_path):
    path = tmp_path / "talk.jsonl"
    ask = ask_through(Cassette(path, recording=True))
    for said in ("Paris", "one", "two"):
        stub.answers(*speak(said))
    assert [await ask("Capital?"), await ask("again?"), await ask("again?")] == ["Paris", "one", "two"]
    return path


NOWHERE = "http://127.0.0.1:9/v1"


async def test_a_replay_answers_without_a_server_in_any_order(recorded, ask_through):
    ask = ask_through(Cassette(recorded, recording=False), NOWHERE)

    assert [await ask("again?"), await ask("Capital?")] == ["one", "Paris"]


async def test_what_a_server_packs_is_kept_as_text(stub, speak, ask_through, tmp_path):
    path = tmp_path / "talk.jsonl"
    stub.answers(gzip.compress("".join(speak("Paris")).encode()), headers={"content-encoding": "gzip"})
    assert await ask_through(Cassette(path, recording=True))("Capital?") == "Paris"

    assert await ask_through(Cassette(path, recording=False), NOWHERE)("Capital?") == "Paris"


async def test_a_field_left_out_after_a_rejection_is_replayed_the_same(stub, speak, ask_through, tmp_path):
    path = tmp_path / "talk.jsonl"
    stub.answers('{"error": "no such field: stream_options"}', status=400)
    stub.answers(*speak("Paris"))
    assert await ask_through(Cassette(path, recording=True))("Capital?") == "Paris"

    assert await ask_through(Cassette(path, recording=False), NOWHERE)("Capital?") == "Paris"


async def test_a_question_asked_again_gets_the_next_answer_then_the_last(recorded, ask_through):
    ask = ask_through(Cassette(recorded, recording=False), NOWHERE)

    assert [await ask("again?") for _ in range(3)] == ["one", "two", "two"]


async def test_a_cassette_names_no_host_and_no_key(recorded):
    written = recorded.read_text()

    assert "secret-key" not in written
    assert "127.0.0.1" not in written


async def test_g4_a_cassette_keeps_no_secret_of_either_side_and_is_found_again(stub, speak, ask_through, tmp_path):
    token, path = "glpat-" + "a1B2c3D4" * 3, tmp_path / "talk.jsonl"
    stub.answers(*speak(f"take {token}"))

    said = await ask_through(Cassette(path, recording=True))(f"here is {token}")
    again = await ask_through(Cassette(path, recording=False), NOWHERE)(f"here is {token}")

    assert (said, again) == (f"take {token}", "take glpat-…[masked]")
    assert token not in path.read_text()


async def test_what_was_not_recorded_is_asked_of_the_model(recorded, stub, speak, ask_through):
    ask = ask_through(Cassette(recorded, recording=False))
    stub.answers(*speak("fresh"))

    assert await ask("something new") == "fresh"


async def test_under_strict_replay_it_is_an_error_that_shows_the_difference(recorded, ask_through, monkeypatch):
    monkeypatch.setenv("PIANO_REPLAY", "strict")
    ask = ask_through(Cassette(recorded, recording=False), NOWHERE)

    with pytest.raises(ModelError, match="no answer to this request") as caught:
        await ask("Capitals?")
    assert '-    "content": "Capital?"' in str(caught.value)
    assert '+    "content": "Capitals?"' in str(caught.value)


async def test_of_a_servers_properties_only_what_is_asked_is_kept(stub, ask_through, tmp_path):
    stub.serves["/props?model=m"] = {
        "model_path": "/home/ada/m.gguf",
        "chat_template_caps": {"supports_tools": True},
        "default_generation_settings": {"n_ctx": 4096, "seed": 1},
    }
    path = tmp_path / "talk.jsonl"
    key = {"method": "GET", "path": "/props?model=m", "body": None}
    client = ask_through(Cassette(path, recording=True)).client

    await client.lacks_tools("m")

    kept = Cassette(path, recording=False).find(key)
    told = {"chat_template_caps": {"supports_tools": True}, "default_generation_settings": {"n_ctx": 4096}}
    assert json.loads(kept["body"]) == told
    assert await ask_through(Cassette(path, recording=False), NOWHERE).client.context("m") == 4096
    assert "model_path" not in path.read_text()


async def test_an_older_cassette_knows_the_properties_of_its_only_server(ask_through, tmp_path):
    path = tmp_path / "talk.jsonl"
    answer = {"status": 200, "headers": {}, "body": '{"chat_template_caps": {"supports_tools": false}}'}
    Cassette(path, recording=True).add({"method": "GET", "path": "/props", "body": None}, answer)

    assert await ask_through(Cassette(path, recording=False), NOWHERE).client.lacks_tools("m")


@pytest.mark.parametrize("replay", ["", "strict"])
async def test_a_window_missing_in_an_older_cassette_is_unknown_and_starts_no_server(
    recorded, stub, ask_through, monkeypatch, replay
):
    monkeypatch.setenv("PIANO_REPLAY", replay)
    client = ask_through(Cassette(recorded, recording=False)).client
    before = list(stub.looked)

    assert await client.context("m") is None
    assert stub.looked == before


def test_any_character_survives_a_cassette(tmp_path):
    path, key = tmp_path / "a.jsonl", {"method": "GET", "path": "/x", "body": "a\u2028\x85\u2029b"}
    Cassette(path, recording=True).add(key, {"status": 200, "headers": {}, "body": "\u2028"})

    assert Cassette(path, recording=False).find(key)["body"] == "\u2028"


async def test_a_broken_answer_is_not_recorded(stub, speak, ask_through, tmp_path):
    path = tmp_path / "talk.jsonl"
    ask = ask_through(Cassette(path, recording=True))
    stub.answers(speak("Pa")[0], None)

    with pytest.raises(ModelError):
        await ask("Capital?")
    assert len(path.read_text().splitlines()) == 1


def test_recording_and_replay_have_the_same_clock(tmp_path):
    one = Cassette(tmp_path / "a.jsonl", recording=True).clock()
    other = Cassette(tmp_path / "a.jsonl", recording=False).clock()

    assert [one.new_id(), one.now(), one.new_id()] == [other.new_id(), other.now(), other.new_id()]


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (None, "no cassette at"),
        ("hello", "is not a cassette"),
        (json.dumps({"piano_cassette": 99, "recorded_at": "2026-01-01"}), "another version \\(99\\)"),
        (json.dumps({"piano_cassette": 1, "recorded_at": "2026-01-01"}) + "\n{}\n", "is not a cassette"),
    ],
)
def test_a_file_that_is_not_a_cassette_is_an_error_that_says_what_to_do(tmp_path, written, says):
    path = tmp_path / "a.jsonl"
    if written is not None:
        path.write_text(written)

    with pytest.raises(PianoError, match=says):
        Cassette(path, recording=False)


def test_a_cassette_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(PianoError, match="cannot be written"):
        Cassette(tmp_path / "file" / "a.jsonl", recording=True)
