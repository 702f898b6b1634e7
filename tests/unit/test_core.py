"""Bus, clock, config and errors."""

import asyncio
from datetime import datetime
from uuid import UUID

import pytest

from piano_jupyter import Piano, clock
from piano_jupyter.bus import MAX_UNREAD, EventBus
from piano_jupyter.config import PianoConfig, configured
from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.events import DeltasDropped, MessageDelta, ModelLoading

ONE, OTHER = UUID(int=1), UUID(int=2)


def delta(thread):
    return MessageDelta(thread_id=thread, job_id=ONE, message_id=ONE, text="x")


def test_subscribers_get_events_of_their_kind_and_thread_and_those_of_no_thread():
    bus, heard = EventBus(), []
    bus.subscribe(heard.append, MessageDelta, thread=ONE)
    everything = []
    bus.subscribe(everything.append)

    mine, other, loading = delta(ONE), delta(OTHER), ModelLoading(note="starting")
    for event in (mine, other, loading):
        bus.publish(event)
    bus.subscribe(heard.append, ModelLoading, thread=ONE)
    bus.publish(loading)

    assert heard == [mine, loading]
    assert everything == [mine, other, loading, loading]


def test_an_unsubscribed_handler_gets_no_more_events():
    bus, heard = EventBus(), []
    undo = bus.subscribe(heard.append)

    undo()
    undo()
    bus.publish(delta(ONE))

    assert heard == []


def test_a_subscriber_that_raises_is_logged_and_the_others_are_still_called(caplog):
    bus, heard = EventBus(), []
    bus.subscribe(lambda _: 1 / 0)
    bus.subscribe(heard.append)

    bus.publish(delta(ONE))

    assert len(heard) == 1
    assert "a subscriber of MessageDelta raised" in caplog.text


async def test_a_stream_gives_events_until_it_is_closed():
    bus = EventBus()
    stream = bus.stream(thread=ONE)
    bus.publish(delta(ONE))

    first = await anext(stream)
    waiting = asyncio.ensure_future(anext(stream, "closed"))
    await stream.aclose()

    assert first == delta(ONE)
    assert await waiting == "closed"


async def test_a_stream_that_is_not_read_drops_only_deltas_and_says_how_many():
    bus = EventBus()
    stream = bus.stream()
    loading = ModelLoading(note="starting")

    for _ in range(MAX_UNREAD + 5):
        bus.publish(delta(ONE))
    bus.publish(loading)
    bus.publish(delta(ONE))
    bus.close()
    told = [event async for event in stream]

    assert told == [delta(ONE)] * MAX_UNREAD + [DeltasDropped(count=5), loading, DeltasDropped(count=1)]


async def test_a_stream_that_is_read_again_continues_after_the_gap():
    bus = EventBus()
    stream = bus.stream(MessageDelta)

    for _ in range(MAX_UNREAD + 5):
        bus.publish(delta(ONE))
    read = [await anext(stream) for _ in range(MAX_UNREAD + 1)]
    bus.publish(delta(OTHER))

    assert read[-1] == DeltasDropped(count=5)
    assert await anext(stream) == delta(OTHER)


async def test_a_clock_before_1970_is_no_error(monkeypatch, scripted):
    class Early(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(1969, 7, 20, tzinfo=tz)

    monkeypatch.setattr(clock, "datetime", Early)
    async with Piano(database=":memory:", model=scripted("hello")) as piano:
        answer = await piano.ask("hi")
        told = await piano.messages(piano.thread)

    assert answer.content == "hello"
    assert [message.inserted_at.year for message in told] == [1969, 1969]
    assert answer.id.version == 7


def test_the_nearest_name_comes_first_and_a_long_list_is_cut():
    error = NotFoundError.among("thread", "alpa", ["zeta", "alpha", *(f"t{number}" for number in range(20))])

    assert str(error).startswith("no thread named 'alpa'; known: alpha, zeta, t0")
    assert str(error).endswith(" and 12 more")


@pytest.mark.parametrize("mark", ["pyproject.toml", ".git", ".agents"])
def test_the_workspace_is_the_nearest_parent_with_a_project_marker(tmp_path, monkeypatch, mark):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "a" / mark).mkdir()
    monkeypatch.chdir(inner)

    config = PianoConfig()

    assert config.workspace == str(tmp_path / "a")
    assert config.database == str(tmp_path / "a" / ".piano" / "piano.duckdb")


@pytest.mark.parametrize("home", ["ada", "linked"])
def test_the_home_folder_is_no_project_whatever_it_holds(tmp_path, monkeypatch, home):
    below = tmp_path / "ada/notes"
    below.mkdir(parents=True)
    (tmp_path / "ada/.agents").mkdir()  # the user's own skills
    (tmp_path / ".git").mkdir()
    (tmp_path / "linked").symlink_to("ada")
    monkeypatch.setenv("HOME", str(tmp_path / home))
    monkeypatch.chdir(below)

    assert PianoConfig().workspace == str(below)

    monkeypatch.chdir(tmp_path / "ada")

    assert PianoConfig().workspace == str(tmp_path / "ada")


def test_the_server_and_its_key_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("PIANO_BASE_URL", "http://gpu:9000/v1/")
    monkeypatch.setenv("PIANO_API_KEY", "secret")

    assert configured(base_url="http://other/v1/").base_url == "http://other/v1"
    assert PianoConfig().base_url == "http://gpu:9000/v1"
    assert PianoConfig().api_key == "secret"


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8080",
        "file:///etc/passwd",
        "http://user:key@host/v1",
        "http:///v1",
        "",
        "http://h:abc/v1",
        "http://h:99999/v1",
        "gopher://host/v1",
        "unix:///run/x.sock",
        "//host/v1",
        "http://@host/v1",
        "http://a@b@host/v1",
    ],
)
def test_g8_an_invalid_address_is_refused_with_an_example(url):
    with pytest.raises(PianoError, match="must look like http://localhost:8080/v1"):
        configured(base_url=url)


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.169.254:80",
        "169.254.170.2",
        "2852039166",
        "0xA9FEA9FE",
        "0251.0376.0251.0376",
        "169.254.43518",
        "[fe80::1]",
        "[::ffff:169.254.169.254]",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "Metadata.Google.Internal",
        "metadata.google.internal.",
    ],
)
def test_g8_the_metadata_addresses_of_clouds_are_refused(host, monkeypatch):
    with pytest.raises(PianoError, match="there a cloud gives out the keys of a machine"):
        configured(base_url=f"http://{host}/latest")
    monkeypatch.setenv("PIANO_BASE_URL", f"http://{host}/")
    with pytest.raises(PianoError, match=r"PIANO_BASE_URL or PIANO_API_KEY: .*gives out the keys"):
        configured()


@pytest.mark.parametrize(
    "host", ["10.0.0.5", "gpu-box", "192.168.1.2:8080", "[fd12::1]:8080", "例え.example", "1.2.3.4.5"]
)
def test_any_other_server_is_accepted(host):
    assert configured(base_url=f"http://{host}/v1").base_url == f"http://{host}/v1"


def test_g8_a_password_in_an_address_is_not_repeated():
    password = "hunter" + "2hunter2"
    with pytest.raises(PianoError) as refused:
        configured(base_url=f"http://me:{password}@host/v1")

    assert password not in str(refused.value)


def test_a_key_is_trimmed_and_not_shown():
    config = configured(api_key=" sk-secret\n")

    assert config.api_key == "sk-secret"
    assert "sk-secret" not in repr(config.api_key)
    assert "sk-secret" not in PianoConfig.class_get_trait_help(PianoConfig.api_key, config)


def test_a_key_that_cannot_be_sent_in_a_header_is_refused_without_being_shown():
    with pytest.raises(PianoError, match="an HTTP header cannot carry") as caught:
        configured(api_key="sk-sécret")
    assert "sécret" not in str(caught.value)


def test_a_value_out_of_bounds_is_refused():
    with pytest.raises(PianoError, match="max_demand"):
        configured(max_demand=0)
