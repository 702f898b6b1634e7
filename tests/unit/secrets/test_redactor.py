"""Redactor: secrets are masked, all else stays. The secrets are generated, so that this file contains none."""

import base64
import io
import json
import logging
import random
import re
import string
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

from piano_jupyter.logs import LOGS, logger
from piano_jupyter.records import Message, Notebook
from piano_jupyter.secrets.known_secrets import own_secrets
from piano_jupyter.secrets.redactor import MASK, OTHER_KEYS, PATTERNS, Redactor, looks_random, redact

ROOT = Path(__file__).parents[3]
RANDOM = random.Random(7)
BASE62 = string.ascii_letters + string.digits
UPPER = string.ascii_uppercase + string.digits


def lot(length, characters=BASE62):
    return "".join(RANDOM.choice(characters) for _ in range(length))


def key_block(kind="RSA PRIVATE KEY", newline="\n"):
    lines = [base64.b64encode(RANDOM.randbytes(48)).decode() for _ in range(12)]
    return newline.join([f"-----BEGIN {kind}-----", *lines, f"-----END {kind}-----"])


NUMBERED = key_block().split("\n")

#: text, and the part of it that must go
SECRETS = {
    "github": (token := "ghp_" + lot(36), token[4:]),
    "github-app": (token := "ghs_" + lot(36), token[4:]),
    "github-fine": (token := f"github_pat_{lot(22)}_{lot(59)}", token[11:]),
    "gitlab": (token := "glpat-" + lot(20), token[6:]),
    "openai": (token := "sk-" + lot(48), token[3:]),
    "openai-project": (token := "sk-proj-" + lot(90), token[8:]),
    "anthropic": (token := "sk-ant-api03-" + lot(90), token[13:]),
    "aws-id": (token := "AKIA" + lot(16, UPPER), token[4:]),
    "aws-secret": (f"aws_secret_access_key = {(token := lot(40))}", token),
    "google": (token := "AIza" + lot(35), token[4:]),
    "google-oauth": (token := "ya29." + lot(60), token[5:]),
    "slack": (token := f"xoxb-{lot(12, string.digits)}-{lot(24)}", token[5:]),
    "slack-hook": (f"https://hooks.slack.com/services/T0/B0/{(token := lot(24))}", token),
    "hugging-face": (token := "hf_" + lot(34, string.ascii_letters), token[3:]),
    "stripe": (token := "sk_live_" + lot(24), token[8:]),
    "npm": (token := "npm_" + lot(36), token[4:]),
    "pypi": (token := "pypi-AgE" + lot(80), token[8:]),
    "sendgrid": (token := f"SG.{lot(22)}.{lot(43)}", token[3:]),
    "jwt": (f"eyJ{lot(33)}.eyJ{lot(60)}.{(token := lot(43))}", token),
    "jwt-encrypted": (f"eyJ{lot(33)}.{lot(40)}.{lot(16)}.{(token := lot(43))}.{lot(22)}", token),
    "bearer": (f"Authorization: Bearer {(token := lot(32))}", token),
    "basic": (f"authorization: Basic {(token := base64.b64encode(RANDOM.randbytes(24)).decode())}", token),
    "url": (f"postgres://ada:{(token := 'hunter' + '2')}@db.example/sales", token),
    "jupyter-address": (f"http://127.0.0.1:8888/lab?token={(token := lot(48, string.hexdigits.lower()))}", token),
    "json": (json.dumps({"api_key": (token := lot(32))}), token),
    "json-in-json": (json.dumps(json.dumps({"password": (token := lot(24))})), token),
    "yaml": (f"client_secret: {(token := lot(32))}", token),
    "python": (f'PASSWORD = "{(token := lot(20) + "7")}"', token),
    "settings-file": (f"DEBUG=1\nDB_PASSWORD={(token := 'correct-horse-' + 'battery')}\nPORT=80", token),
    "settings-file-dotted": (f"DB_PASSWORD={(token := 'correct.' + 'horse2')}", token),
    "exported": (f"export MY_TOKEN='{(token := 'tea' + 'pot-x')}'", token),
    "password": (f"password={(token := 'hunter' + '2')}", token),
    "passwd-quoted": (f'passwd = "{(token := "Hunter-" + "two")}"', token),
    "pwd-in-a-connection-string": (f"Server=db;Uid=sa;Pwd={(token := 'pa$$' + 'w0rd?x')};Encrypt=yes", token),
    "password-of-digits": (f"--password={(token := lot(8, string.digits))}", token),
    "password-in-a-query": (f"https://x.example/login?user=ada&password={(token := 'correct' + 'horse')}&x=1", token),
    "password-of-libpq": (f"host=db user=ada password={(token := 'correct' + 'horse')} dbname=sales", token),
    "password-in-json": (json.dumps({"dbPassword": (token := "hunter" + "2")}), token),
    "password-in-json-in-json": (json.dumps(json.dumps({"password": (token := "hunter" + "2")})), token),
    "secret-short": (f"client_secret={(token := 'tea4' + 'two-and-two')}", token),
    "token-short": (f"token = '{(token := 'tok' + 'en-of-ada-7')}'", token),
    "api-key-short": (f"api_key={(token := 'ada' + '0815x')}", token),
    "netrc": (f"machine db.example login ada password {(token := 'correct' + 'horse')}", token),
    "netrc-lines": (f"machine db\n  login ada\n  account x\n  password {(token := 'correct' + 'horse')}", token),
    "netrc-default": (f"default login ada password {(token := 'correct' + 'horse')}", token),
    "netrc-in-json": (json.dumps(f"machine db\n\tlogin ada\n\tpassword {(token := 'correct' + 'horse')}"), token),
    "netrc-with-line-numbers": (
        f"1\tmachine db\n2\t  login ada\n3\t  password {(token := 'correct' + 'horse')}",
        token,
    ),
    "databricks": (token := "dapi" + lot(32, string.hexdigits.lower()[:16]), token[4:]),
    "databricks-azure": (token := f"dapi{lot(32, string.hexdigits.lower()[:16])}-2", token[4:]),
    "azure-storage": (
        f"AccountName=ada;AccountKey={(token := base64.b64encode(RANDOM.randbytes(64)).decode())};X=y",
        token,
    ),
    "azure-bus": (f"SharedAccessKey={(token := base64.b64encode(RANDOM.randbytes(32)).decode())}", token),
    "azure-signature": (f"SharedAccessSignature=sv=2024&sp=r&sig={(token := lot(40))}%3D;Blob=x", token),
    "azure-signature-of-a-header": (f"SharedAccessSignature sr=x&sig={(token := lot(40))}%3D&se=1", token),
    "azure-address": (f"https://ada.blob.example/x?sv=2024&sp=r&sig={(token := lot(40))}%3D&se=1", token),
    "key-block": ((token := key_block()), token.split("\n")[5]),
    "key-block-openssh": ((token := key_block("OPENSSH PRIVATE KEY")), token.split("\n")[1]),
    "key-block-in-json": (json.dumps({"k": (token := key_block("PRIVATE KEY"))}), token.split("\n")[3]),
    "key-block-with-line-numbers": (
        "\n".join(f"{at}\t{line}" for at, line in enumerate(NUMBERED, 1)),
        NUMBERED[6],
    ),
    "key-block-cut-off": ((token := key_block())[: len(token) // 2], token.split("\n")[2]),
    "kaggle": (json.dumps({"username": "ada", "key": (token := lot(32, string.hexdigits.lower()[:16]))}), token),
    "kaggle-in-json": (json.dumps(json.dumps({"username": "a", "key": (token := lot(32, string.digits))})), token),
    "putty": (f"Public-Lines: 1\nAAAA\nPrivate-Lines: 1\n{(token := lot(48))}\nPrivate-MAC: ab", token),
    "digital-ocean": (f"doo_v1_{(token := lot(64, string.hexdigits.lower()[:16]))}", token),
    "discord": (f"https://discord.com/api/webhooks/{lot(18, string.digits)}/{(token := lot(68))}", token),
    "telegram": (f"{lot(10, string.digits)}:AA{(token := lot(33))}", token),
    **{f"other-{start}": (f"{start}{(token := lot(36))}", token) for start in sorted(OTHER_KEYS)},
}

HARMLESS = [
    "commit 3f9a1c7be2d04586a97c1e20f4b8d6a35c7e9f10",
    "urn:uuid:7d444840-9dc0-11d1-b245-5ffdce74fad2",
    "sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "data:image/png;base64," + base64.b64encode(RANDOM.randbytes(3000)).decode(),
    '<div id="sk-container-id-12" class="sk-top-container sk-toggleable__content-pandas sk-estimator-doc-link-2">',
    "a task-force-of-2024-members; risk-assessment-2025-final-v2; max_tokens=4096, n_tokens: 123456789012345678",
    'next_page_token = "CAoQAA1b2c3d4e5f6g7h8", "nextPageToken": "EAAaBlBUOkNBVSIA1x2y3z"',
    "api_key=settings.OPENAI_API_KEY_2, token = hashlib.sha256(data).hexdigest()",
    "token = request.headers.get('Authorization'); password = os.environ['DB_PASSWORD']",
    "TOKEN=$(cat token.txt)\nAPI_KEY=${API_KEY}\nSECRET_KEY=./secret.key\nMAX_TOKEN=100000000\n",
    "Authorization: Bearer YOUR_API_KEY_GOES_HERE and Bearer {token} for the bearer of good news",
    "http://localhost:8080/v1 http://[::1]:8080/ ada@example.org postgresql://user:password@server:5432/db",
    "a key is found between -----BEGIN PRIVATE KEY----- and -----END PRIVATE KEY-----, never show it",
    "the secret: write plainly. keyboard: qwertz; primary_key=a1b2c3d4e5f6a7b8c9d0; sort key: x9y8z7w6v5u4t3s2r1",
    "if token == self._token and password != expected_password_of_the_user: raise",
    "password=None, passwd=passwd, pwd=self._pwd, password=get_password(), password=cfg['db1'], password=my_password2",
    "password=args.password2 passphrase=os.environ['A1'] password=$PW1234 password=${PASSWORD1} password={password1}",
    "password='<your password 1>' password=%(password1)s pwd=%s passwd=******** password=… password: use 8 letters",
    'password=value, password="password", "password": "string", password: str, "password": {"type": "string1"}',
    "password == expected1 password != wrong2 password_hash=abc12345x password_file=db1 PWD=/home/a1 pwd=C:\\ada1",
    "token=token, token=tokens.get(1), secret=SECRET_KEY_2, api_key=API_KEY_1, token == other1234 token := first1234",
    "secret=settings.SECRET2, token=abc, token=next_token_2, token_type=bearer12, max_tokens=4096, tokenizer=gpt2model",
    "def connect(\n    password=default_value,\n    pwd=pw,\n    token=0x00000020,\n)",
    "a machine learning password, the default password, default login page; login name and password required",
    "machine db login ada password password , dapi-client dapifoo AccountKey= AccountKey=<key> sig=x&sig=ok",
    "SharedAccessSignature authentication of the storage account, SharedAccessSignature=<signature-goes-here>",
    "\x00\ud800 eyJhbGciOiJIUzI1NiJ9 xoxo- hf_model_config AKIA sk- ghp_ :// : = …[masked]",
]


@pytest.mark.parametrize("kind", SECRETS)
def test_g4_a_secret_is_masked_wherever_it_is(kind):
    text, secret = SECRETS[kind]

    for before, after in [("", ""), ("x = ('", "')"), ("see\n", "\nand on"), ("`", "`, "), ("\x1b[0m", "\r\n")]:
        if kind in {"settings-file", "settings-file-dotted", "exported"} and "\n" not in before:
            before = ""  # noqa: PLW2901  It is a line of its own.
        masked = redact(before + text + after)

        assert secret not in masked
        assert secret[-12:] not in masked
        assert MASK in masked
        assert masked.startswith(before)
        assert masked.endswith(after)


def test_g4_control_before_they_are_masked_all_these_texts_contain_their_secret():
    assert [kind for kind, (text, secret) in SECRETS.items() if secret not in text] == []


def test_the_mask_shows_what_kind_of_secret_it_was():
    assert redact(f"use {SECRETS['github'][0]}, now") == "use ghp_…[masked], now"
    assert redact(SECRETS["url"][0]) == "postgres://ada:…[masked]@db.example/sales"
    assert redact(SECRETS["json"][0]) == '{"api_key": "…[masked]"}'
    assert redact(SECRETS["key-block"][0]) == "-----BEGIN RSA PRIVATE KEY-----…[masked]-----END RSA PRIVATE KEY-----"
    assert json.loads(redact(SECRETS["key-block-in-json"][0]))["k"].startswith("-----BEGIN PRIVATE KEY-----…")


@pytest.mark.parametrize(
    ("before", "after"),
    [("", ""), ("a=1\n", "\nb=2"), ("Uid=sa;", ";"), ("?", "&x=1"), ("--", " --port 1"), ("user=ada ", " dbname=x")],
)
def test_a_password_of_letters_is_masked_where_no_code_stands(before, after):
    masked = redact(f"{before}password=correct{'horse'}{after}")

    assert masked == f"{before}password={MASK}{after}"


@pytest.mark.parametrize("escape", ["\\n", "\\t", "%3D"])
@pytest.mark.parametrize("kind", ["github", "openai", "hugging-face", "aws-id"])
def test_a_secret_behind_an_escape_is_masked_too(kind, escape):
    text, secret = SECRETS[kind]

    assert secret not in redact(f"a{escape}{text}")


@pytest.mark.parametrize("text", HARMLESS)
def test_text_that_is_no_secret_stays(text):
    assert redact(text) == text


def test_nothing_in_this_repository_is_taken_for_a_secret():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split(
        "\n"
    )
    paths = [ROOT / name for name in files if name] or [*ROOT.glob("*.*"), *(ROOT / "piano_jupyter").rglob("*.py")]
    texts = {
        path: path.read_text(encoding="utf-8") for path in paths if path.suffix not in {".png", ""} and path.is_file()
    }

    assert len(texts) > 80
    assert {path: MASK for path, text in texts.items() if redact(text) != text} == {Path(__file__): MASK}


pieces = st.sampled_from(
    [*(text for text, _ in SECRETS.values()), *HARMLESS, *(s for each in PATTERNS for s in each.signs)]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(pieces | st.text(max_size=20), max_size=8).map("".join), st.text(BASE62, min_size=8, max_size=20))
def test_masking_twice_is_the_same_as_masking_once(text, value):
    redactor = Redactor({value: "$VALUE "})
    once = redactor(text + value)

    assert redactor(once) == once
    assert value not in once.replace(MASK, "")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.uuids(), st.text(max_size=200))
def test_hashes_ids_images_and_words_stay(data, identity, words):
    known = re.search(r"pass|secret|token|key|credential|eyJ|://|sk-|hf_", words, re.IGNORECASE)
    for text in (base64.b64encode(data).decode(), data.hex(), str(identity), words if not known else ""):
        assert redact(text) == text


def test_known_values_are_masked_in_each_form_in_which_they_are_written():
    value = 'pa ss"wörd/1'
    redactor = Redactor({value: "$DB_PASSWORD ", "short": "x", "[masked]": "y"})

    for written in (value, json.dumps(value), json.dumps(value, ensure_ascii=False), "pa%20ss%22w%C3%B6rd%2F1"):
        assert redactor(f"<{written}>").strip("<>").strip('"') == "$DB_PASSWORD …[masked]"
    assert redactor("short [masked]") == "short [masked]"


def test_of_two_known_values_the_longer_is_masked_first():
    assert Redactor({"abcdefgh": "a", "abcdefghijkl": "b"})("abcdefghijkl abcdefgh") == "b…[masked] a…[masked]"


def test_all_texts_of_records_and_json_are_masked_and_the_rest_stays():
    secret = SECRETS["github"][0]
    now = datetime.now(UTC)
    fields = {"id": UUID(int=1), "thread_id": UUID(int=2), "role": "user", "inserted_at": now}
    message = Message(**fields, content=f"a {secret}", usage={"list": [1, (secret, None)]})
    clean = Message(**fields, content="a")

    masked = redact(message)

    assert (masked.content, masked.usage) == ("a ghp_…[masked]", {"list": [1, ("ghp_…[masked]", None)]})
    assert (masked.id, masked.inserted_at) == (message.id, now)
    assert redact(clean) is clean
    assert redact({secret: 1}) == {"ghp_…[masked]": 1}
    notebook = Notebook("k1", f"/notes/{secret}.ipynb")
    assert redact((notebook,)) == (Notebook("k1", "/notes/ghp_…[masked].ipynb"),)
    assert redact(Notebook("k1", "/notes")) == Notebook("k1", "/notes")
    assert type(redact(notebook)) is Notebook


def test_written_words_do_not_look_random():
    assert not any(
        map(looks_random, ["correct-horse-battery-staple", "someCamelCaseNameWith2Parts", "a" * 40, "1" * 40])
    )
    for characters in (BASE62, string.digits + "abcdef"):
        assert sum(looks_random(lot(40, characters)) for _ in range(200)) > 190


HOSTILE = {
    "passwords": "password=a1b2c3d4 ",
    "open-quotes": "password='a",
    "settings": "a=password=",
    "netrc": "machine login ",
    "blanks": "machine" + " " * 30,
    "prose": (ROOT / "piano_jupyter" / "docs" / "tools-and-security.md").read_text(encoding="utf-8"),
    "every-sign": "".join(sign for shape in PATTERNS for sign in shape.signs),
    "begins": "-----BEGIN PRIVATE KEY-----",
    "ends": "-----BEGIN PRIVATE KEY----- aa -----END PRIVATE KEY-----",
    "tokens": "eyJaaaaaaaaa.",
    "addresses": "://a:aaa",
    "given": "token=aaaaaaaa",
    "names": "\nA_TOKEN" + "_KEY" * 20 + "=",
    "one-word": "a1B2",
    "brackets": "sk-a1" * 3 + "AKIA" * 3,
    "lines": "\n" + "A" * 64,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_g6_the_time_for_a_text_is_linear_in_its_length(name):
    def seconds(length):
        text = (HOSTILE[name] * (length // len(HOSTILE[name]) + 1))[:length]
        begun = time.process_time()
        redact(text)
        return time.process_time() - begun

    few, many = seconds(100_000), seconds(1_600_000)

    assert many < 40 * few + 0.5


def test_g6_fifty_megabytes_are_masked_in_seconds():
    text = (HOSTILE["prose"] * (50_000_000 // len(HOSTILE["prose"]) + 1))[:50_000_000] + SECRETS["github"][0]
    begun = time.process_time()
    masked = redact(text)

    assert masked.endswith("ghp_…[masked]")
    assert time.process_time() - begun < 20


def test_secrets_of_the_environment_are_known_by_the_names_of_their_variables(tmp_path):
    (tmp_path / "jpserver-1.json").write_text(json.dumps({"token": "0123abcd" * 6, "url": "http://x/"}))
    (tmp_path / "jpserver-2.json").write_text("being writ")
    (tmp_path / "jpserver-3.json").write_text("[]")
    (tmp_path / "kernel-1.json").write_text(json.dumps({"key": "12345678-kernel"}))
    held = {
        "MY_API_KEY": "k1-aaaaaaaa",
        "GH_TOKEN": "k2-aaaaaaaa",
        "JUPYTER_TOKEN": "k3-aaaaaaaa",
        "aws_secret_access_key": "k4/aaaaaaa",
        "PGPASSWORD": "k5-aaaaaaaa",
        "DATABASE_URL": "postgres://ada:k6-aaaaaaaa@db/x",
    }
    plain = {
        "HOME": "/home/ada/somewhere",
        "JPY_SESSION_NAME": "/home/ada/talk.ipynb",
        "SSH_KEY": "~/.ssh/id_ed25519",
        "TOKEN_URL": "https://example.org/token",
        "MODE_KEY": "production",
        "PORT_KEY": "1234567890",
        "KEY": "short",
        "MONKEY": "bananas-and-more",
    }

    found = own_secrets(held | plain, tmp_path)

    assert sorted(found) == sorted(
        ["0123abcd" * 6, "k1-aaaaaaaa", "k2-aaaaaaaa", "k3-aaaaaaaa", "k4/aaaaaaa", "k5-aaaaaaaa", "k6-aaaaaaaa"]
    )
    assert Redactor(found)("it is k1-aaaaaaaa") == "it is $MY_API_KEY …[masked]"
    assert own_secrets({}, tmp_path / "none") == {}


def test_g4_a_log_contains_no_secret_neither_in_its_messages_nor_in_a_traceback():
    secret, stream = SECRETS["github"][0], io.StringIO()
    log, handler = logger("piano_jupyter.test_redaction"), logging.StreamHandler(stream)
    log.addHandler(handler)
    try:
        trouble = LookupError(f"no {secret} and no my-own-value")
        log.error("%s failed", secret, exc_info=trouble)
        LOGS.masks.append(Redactor({"my-own-value": "$MINE "}))
        log.error("failed again", exc_info=trouble)
    finally:
        LOGS.masks.clear()
        log.removeHandler(handler)

    written = stream.getvalue()
    assert secret not in written
    assert "ghp_…[masked] failed\nLookupError" in written
    assert written.count("my-own-value") == 1
    assert "LookupError: no ghp_…[masked] and no $MINE …[masked]" in written
