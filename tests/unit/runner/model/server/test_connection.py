"""Certificates, proxies and addresses: the same for the check whether a server is there and for the questions."""

import asyncio
import gzip
import json
import shutil
import ssl
import subprocess
import zlib

import pytest
from traitlets import TraitError

from piano_jupyter import Piano
from piano_jupyter.config import PianoConfig, plain_address
from piano_jupyter.errors import ModelError, ModelUnavailableError
from piano_jupyter.runner.connection import connection_settings, tls_context
from piano_jupyter.runner.model.client import ChatClient
from piano_jupyter.runner.model.embedded.local_server import Endpoint
from piano_jupyter.runner.model.llama_swap.swap_client import SwapClient
from piano_jupyter.runner.model.protocol import ChatRequest
from piano_jupyter.runner.model.server import bounded_body, endpoint, transport
from piano_jupyter.runner.model.server.endpoint import EndpointFinder
from piano_jupyter.runner.model.server.transport import connection_problem

REQUEST = ChatRequest(model="m", messages=[{"role": "user", "content": "hi"}])
MODELS = {"data": [{"id": "m"}]}
VARIABLES = ["SSL_CERT_FILE", "SSL_CERT_DIR", *(f"{kind}_PROXY" for kind in ("HTTP", "HTTPS", "ALL", "NO"))]
PASSWORD = "pass-" + "1234"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="session")
def certificate_hash(certificate):
    """The file name by which OpenSSL finds the certificate in a folder."""
    command = ["openssl", "x509", "-hash", "-noout", "-in", certificate[0]]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() + ".0"


@pytest.fixture
async def secure(stub, certificate):
    """The address of the stub over TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    server = await asyncio.start_server(stub.handle, "127.0.0.1", 0, ssl=context)
    stub.serves["/v1/models"] = MODELS
    yield f"https://localhost:{server.sockets[0].getsockname()[1]}/v1"
    server.close()


@pytest.fixture
async def ask():
    """Ask a question with these settings, and return the answer's text."""
    clients = []

    async def ask(url, **settings):
        config = PianoConfig(base_url=url, request_retries=3, **settings)

        async def connect():
            return Endpoint(url=config.base_url, api_key=config.api_key)

        swap = SwapClient(connect, config)
        clients.extend([swap, ChatClient(connect, config, None, swap)])
        async with asyncio.timeout(10):
            return [piece async for piece in clients[-1].stream(REQUEST)][-1].text

    yield ask
    for client in clients:
        await client.aclose()


async def test_an_untrusted_certificate_is_named_by_the_check_and_by_a_question(secure, ask):
    for checked in (connection_problem(PianoConfig(base_url=secure)), ask(secure)):
        with pytest.raises(ModelUnavailableError, match=r"is not trusted \(self.signed certificate\); set .*\.verify"):
            await checked


async def test_it_does_not_bring_the_embedded_model_in(secure, monkeypatch):
    monkeypatch.setattr(endpoint, "installed", lambda: True)
    finder = EndpointFinder(PianoConfig(base_url=secure), lambda *_: None)

    with pytest.raises(ModelUnavailableError, match="is not trusted"):
        await finder.find()
    assert "is not trusted" in await finder.problem()


@pytest.mark.parametrize("how", ["verify", "folder", "off", "SSL_CERT_FILE", "SSL_CERT_DIR"])
async def test_a_certificate_is_trusted_where_a_setting_or_the_environment_says_so(
    secure, stub, speak, ask, certificate, certificate_hash, monkeypatch, how, tmp_path
):
    path = certificate[0]
    if how in {"folder", "SSL_CERT_DIR"}:
        shutil.copy(path, tmp_path / certificate_hash)
        path = tmp_path
    settings = {"verify": False if how == "off" else str(path)}
    if how.startswith("SSL"):
        monkeypatch.setenv(how, str(path))
        settings = {}
    stub.answers(*speak("ok"))

    assert await connection_problem(PianoConfig(base_url=secure, **settings)) is None
    assert await ask(secure, **settings) == "ok"


async def test_a_change_of_verify_counts_at_once(secure, stub, speak):
    stub.answers(*speak("ok"))
    config = PianoConfig(base_url=secure)

    async def connect():
        return Endpoint(url=config.base_url)

    swap = SwapClient(connect, config)
    with pytest.raises(ModelUnavailableError):
        await swap.models()
    config.verify = False
    assert [model.name for model in await swap.models()] == ["m"]
    await swap.aclose()


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR", "PianoConfig.verify"])
async def test_certificates_that_do_not_exist_are_a_sentence_and_only_for_https(
    stub, speak, ask, monkeypatch, name, tmp_path
):
    missing = str(tmp_path / "missing")
    settings = {"verify": missing} if "." in name else {}
    if not settings:
        monkeypatch.setenv(name, missing)
    stub.serves["/v1/models"] = MODELS
    stub.answers(*speak("ok"))

    assert await connection_problem(PianoConfig(base_url=stub.url, **settings)) is None
    assert await ask(stub.url, **settings) == "ok"
    with pytest.raises(ModelUnavailableError, match=f"{name} names '{missing}', which does not exist"):
        await connection_problem(PianoConfig(base_url="https://localhost:9/v1", **settings))
    with pytest.raises(ModelUnavailableError, match="which does not exist"):
        await ask("https://localhost:9/v1", **settings)


async def test_a_file_without_certificates_is_a_sentence(tmp_path):
    (tmp_path / "empty.pem").write_text("nothing")
    config = PianoConfig(base_url="https://localhost:9/v1", verify=str(tmp_path / "empty.pem"))

    with pytest.raises(ModelUnavailableError, match=r"no certificates can be read from PianoConfig\.verify"):
        await connection_problem(config)


async def test_https_to_a_server_that_speaks_http_is_named(stub):
    url = stub.url.replace("http:", "https:")

    with pytest.raises(ModelUnavailableError, match="does the server speak http"):
        await connection_problem(PianoConfig(base_url=url))


async def test_status_says_that_certificates_are_not_checked(secure, tmp_path):
    settings = {"base_url": secure, "embedded": "never", "verify": False}
    async with Piano(database=":memory:", workspace=tmp_path, **settings) as piano:
        status = await piano.status()

    assert status.server == f"{secure} (its certificate is not checked: verify=False)"


async def test_the_check_sends_the_key(stub):
    stub.answers(json.dumps(MODELS))

    assert await connection_problem(PianoConfig(base_url=stub.url, api_key="sk-1")) is None
    assert stub.asked[0][1]["authorization"] == "Bearer sk-1"


@pytest.mark.parametrize("how", ["setting", "environment"])
async def test_the_check_and_the_questions_go_through_the_proxy(stub, speak, ask, monkeypatch, how):
    proxy = stub.url.removesuffix("/v1")
    settings = {"proxy": proxy.removeprefix("http://")} if how == "setting" else {}
    if not settings:
        monkeypatch.setenv("HTTP_PROXY", proxy)
    stub.answers(json.dumps(MODELS))
    stub.answers(*speak("ok"))
    url = "http://model.example:8080/v1"

    assert await connection_problem(PianoConfig(base_url=url, **settings)) is None
    assert await ask(url, **settings) == "ok"
    assert [path for path, _, _ in stub.asked] == [f"{url}/models", f"{url}/chat/completions"]


@pytest.mark.parametrize(
    ("url", "settings", "environment", "proxy"),
    [
        ("http://localhost:1/v1", {}, {"HTTP_PROXY": "http://p:1"}, ""),
        ("http://127.0.0.2:1/v1", {}, {"HTTP_PROXY": "http://p:1"}, ""),
        ("http://[::1]:1/v1", {}, {"ALL_PROXY": "http://p:1"}, ""),
        ("http://gpu:1/v1", {}, {"HTTP_PROXY": "p:1"}, "http://p:1"),
        ("https://gpu/v1", {}, {"HTTP_PROXY": "http://p:1"}, ""),
        ("https://gpu/v1", {}, {"ALL_PROXY": "http://p:1"}, "http://p:1"),
        ("http://gpu:1/v1", {}, {"HTTP_PROXY": "http://p:1", "NO_PROXY": "gpu"}, ""),
        ("http://gpu:1/v1", {"proxy": "none"}, {"HTTP_PROXY": "http://p:1"}, ""),
        ("http://localhost:1/v1", {"proxy": "p:2"}, {}, "http://p:2"),
    ],
)
def test_which_proxy_is_used(monkeypatch, url, settings, environment, proxy):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert connection_settings(PianoConfig(base_url=url, **settings), url).proxy == proxy


@pytest.mark.parametrize(
    ("url", "proxy", "environment", "found"),
    [
        ("https://docs.example/mcp", "http://p:1", {}, "http://p:1"),
        ("https://docs.example/mcp", "http://p:1", {"NO_PROXY": "docs.example"}, ""),
        ("https://docs.example/mcp", "none", {"HTTPS_PROXY": "http://p:1"}, ""),
        ("http://localhost:1/mcp", "http://p:1", {}, ""),
    ],
)
def test_other_servers_are_reached_through_the_same_proxy_unless_they_are_near(
    monkeypatch, url, proxy, environment, found
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert connection_settings(PianoConfig(base_url="http://gpu:1/v1", proxy=proxy), url).proxy == found


def test_the_embedded_model_is_asked_without_a_proxy():
    config = PianoConfig(base_url="http://gpu:1/v1", proxy="http://p:1")

    assert connection_settings(config, "http://127.0.0.1:5000/v1").proxy == ""


async def test_a_proxy_that_does_not_answer_is_named_without_its_password(ask):
    settings = {"proxy": f"http://me:{PASSWORD}@127.0.0.1:9"}

    problem = await connection_problem(PianoConfig(base_url="http://gpu/v1", **settings))
    with pytest.raises(ModelError, match=r"does not answer through the proxy 127\.0\.0\.1:9") as asked:
        await ask("http://gpu/v1", **settings)

    assert problem == "nothing answers at http://gpu/v1 through the proxy 127.0.0.1:9"
    assert PASSWORD not in str(asked.value)


async def test_a_proxy_that_cannot_be_one_is_a_sentence():
    with pytest.raises(ModelUnavailableError, match=r"the proxy 'ftp://p' cannot be used .*; set PianoConfig\.proxy"):
        await connection_problem(PianoConfig(base_url="http://gpu/v1", proxy="ftp://p"))


async def test_a_slow_list_of_models_is_not_an_absent_server(stub, monkeypatch):
    monkeypatch.setattr(endpoint, "installed", lambda: True)
    stub.answers(status=0)
    notes = []
    config = PianoConfig(base_url=stub.url, connect_timeout=0.05)

    found = await EndpointFinder(config, lambda note, _: notes.append(note)).find()

    assert (found.url, notes) == (stub.url, [])


async def test_a_list_of_models_that_does_not_end_is_not_an_absent_server(stub):
    stub.answers("{", ...)

    assert await connection_problem(PianoConfig(base_url=stub.url, connect_timeout=0.05)) is None


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_of_everything_is_named_with_where_to(stub, monkeypatch, status):
    monkeypatch.setattr(endpoint, "installed", lambda: True)
    stub.answers("moved", status=status, headers={"location": "https://models.example/v1/models"})
    finder = EndpointFinder(PianoConfig(base_url=stub.url), lambda *_: None)

    with pytest.raises(ModelUnavailableError, match=r"redirects to https://models\.example/v1; set PianoConfig"):
        await finder.find()


@pytest.mark.parametrize(
    "typed",
    [
        " http://gpu:8080/v1 ",
        "http://gpu:8080/v1/\n",
        "http://gpu:8080/v1/chat/completions",
        "http://gpu:8080/v1/chat/completions/ ",
        "http://gpu:8080/v1/completions",
        "http://gpu:8080/v1/models",
    ],
)
def test_an_address_with_blanks_or_the_path_of_a_request_is_understood(typed):
    assert plain_address(typed) == "http://gpu:8080/v1"


@pytest.mark.parametrize(
    "typed", ["http://gpu: 8080/v1", "http://gpu/v 1", "http://gpu/v1?key=1", "http://gpu/v1#a", " "]
)
def test_any_other_address_is_refused(typed):
    with pytest.raises(TraitError, match="base_url must look like"):
        plain_address(typed)


# -- bounded bodies ------------------------------------------------------------------------------


def bomb(encoding):
    """Return 40 MB of blanks, as some 40 kB."""
    raw = b" " * (40 << 20)
    if encoding == "gzip":
        return gzip.compress(raw)
    if encoding == "raw deflate":
        packed = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return packed.compress(raw) + packed.flush()
    return zlib.compress(raw)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw deflate"])
@pytest.mark.parametrize("status", [200, 500])
async def test_a_compressed_body_that_is_too_large_ends_in_a_sentence(stub, ask, monkeypatch, encoding, status):
    monkeypatch.setattr(bounded_body, "MAX_STREAM_BYTES", 4 << 20)
    monkeypatch.setattr(bounded_body, "MAX_BODY_BYTES", 4 << 20)
    stub.answers(bomb(encoding), status=status, headers={"content-encoding": encoding.removeprefix("raw ")})

    with pytest.raises(ModelError, match="the server's answer is larger than 4 MiB"):
        await ask(stub.url)
    assert len(stub.asked) == 1


async def test_a_body_without_end_ends_in_a_sentence(stub, ask, monkeypatch):
    monkeypatch.setattr(bounded_body, "MAX_STREAM_BYTES", 1 << 20)
    stub.answers(*["x" * 60_000] * 40)

    with pytest.raises(ModelError, match="larger than 1 MiB"):
        await ask(stub.url)


async def test_a_list_of_models_that_is_too_large_is_a_sentence(stub, monkeypatch):
    monkeypatch.setattr(bounded_body, "MAX_BODY_BYTES", 1 << 20)
    stub.serves["/v1/models"] = [b"x" * (2 << 20)]
    config = PianoConfig(base_url=stub.url)

    async def connect():
        return Endpoint(url=config.base_url)

    swap = SwapClient(connect, config)
    with pytest.raises(ModelError, match="larger than 1 MiB"):
        await swap.models()
    await swap.aclose()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw deflate"])
async def test_a_compressed_answer_is_read(stub, speak, ask, encoding):
    raw = "".join(speak("Pa", "ris")).encode()
    packed = zlib.compressobj(wbits={"gzip": 31, "deflate": 15, "raw deflate": -15}[encoding])
    data = packed.compress(raw) + packed.flush()
    pieces = [data[at : at + 1] for at in range(len(data))]
    stub.answers(*pieces, headers={"content-encoding": encoding.removeprefix("raw ")})

    assert await ask(stub.url) == "Paris"


async def test_a_compression_that_cannot_be_read_is_named(stub, ask):
    stub.answers("x", headers={"content-encoding": "br"})

    with pytest.raises(ModelError, match=r"compressed its answer \(br\)"):
        await ask(stub.url)


def test_certificates_are_read_once(certificate):
    named = {"verify": str(certificate[0]), "cert_file": "", "cert_dir": ""}
    assert tls_context(**named) is tls_context(**named)
    assert transport.usual_certificates() is transport.usual_certificates()
