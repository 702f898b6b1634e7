"""Redactor: masks keys, tokens and passwords in texts (`ghp_…[masked]`). Pure, and linear in the text's length.

A secret is found by its pattern (keys of GitHub, Slack or AWS, a private key block, a password in a URL or a .netrc),
by the name that it is assigned to (`assigned.py`), or because its exact value is known. Commit hashes, UUIDs, images in
base64, prose and code stay as they are.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar, cast
from urllib.parse import quote

from piano_jupyter.secrets.assigned import is_placeholder, looks_random, without_assigned_secrets
from piano_jupyter.text.words import words

T = TypeVar("T")

MASK = "…[masked]"
MIN_SECRET_CHARS = 8  #: of a known secret; shorter values are not masked
MIN_CACHED_CHARS = 200  #: of a text: masking a shorter one takes no longer than a look-up
MAX_CACHED_CHARS = 8_000_000  #: of all texts in the cache
MAX_KEY_BLOCK_CHARS = 20_000  #: longest private key block

BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
END = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
KEY_MATERIAL = re.compile(r"[A-Za-z0-9+/=]{16}")
KEY_LINES = re.compile(r"(?:(?:\\[nr]|\s){1,4}(?:\d{1,5}\t)?[A-Za-z0-9+/=]{16,}){1,600}")


@dataclass(frozen=True, slots=True)
class _SecretPattern:
    """The pattern of one kind of secret; its group `keep` stays, its group `secret` is masked."""

    signs: tuple[str, ...]  #: literal texts: without one of them there is no match
    pattern: re.Pattern[str]
    judge: Callable[[str], bool] | None = None  #: returns whether a match is a secret

    def masked(self, found: re.Match[str]) -> str:
        """Return the replacement of a match."""
        return found[0] if self.judge is not None and not self.judge(found["secret"]) else found["keep"] + MASK


def _token(signs: str, prefix: str, body: str, judge: Callable[[str], bool] | None = None) -> _SecretPattern:
    return _SecretPattern(
        tuple(signs.split("|")), re.compile(rf"(?P<keep>{prefix})(?P<secret>{body})", re.ASCII), judge
    )


def _at_word_start(prefix: str, no: str = "A-Za-z0-9") -> str:
    """Match a prefix at the start of a word, or after an escape of JSON, of a URL or of a terminal colour."""
    escapes = "|".join(rf"(?<={each}{prefix})" for each in (r"\\[nrt]", "%[0-9A-F]{2}", "[0-9]m"))
    return rf"{prefix}(?:(?<![{no}]{prefix})|{escapes})"


def _is_credential(value: str) -> bool:
    return any(map(str.isdigit, value)) or not (value.isupper() or value.islower())


def _is_password(value: str) -> bool:
    return not is_placeholder(value)


#: Between the words of a .netrc: blanks or line ends, also those of JSON and of a file with line numbers.
NETRC_GAP = r"(?:\\[nrt]|\s){1,20}(?:\d{1,6}\t[ \t]{0,20})?"
NETRC_ENTRY = rf"(?:machine{NETRC_GAP}[\w.:-]{{1,100}}|default){NETRC_GAP}login{NETRC_GAP}[^\s\\]{{1,100}}{NETRC_GAP}"

#: What the keys of other services begin with.
OTHER_KEYS = words(
    """
    ATATT3x ATCTT3x KGAT_ NRAK- PMAK- csk- dckr_pat_ dp.pt. figd_ fw_ glagent- glc_ glcbt- gldt- glft- glimt- glptt-
    glrt- glsa_ glsoat- hvb. hvs. jina_ lin_api_ lsv2_pt_ lsv2_sk_ ntn_ nvapi- ops_ey pcsk_ phx_ pplx- r8_ rubygems_
    sb_secret_ sbp_ shpat_ shpss_ sntrys_ sntryu_ tgp_v1_ tskey- tvly- vercel_blob_rw_
    """
)

PATTERNS = (
    _token("gh", r"gh[pousr]_", r"[A-Za-z0-9]{20,}"),
    _token("github_pat_", "github_pat_", r"\w{20,}"),
    _token("glpat-", "glpat-", r"[\w-]{16,}"),
    _token("sk-", _at_word_start("sk-"), r"(?:ant-|proj-|or-v1-)?[\w-]{18,}", looks_random),
    _token("_live_", r"[sr]k_live_", r"[A-Za-z0-9]{16,}"),
    _token("_test_", r"[sr]k_test_", r"[A-Za-z0-9]{16,}", looks_random),
    _token("whsec_", "whsec_", r"[A-Za-z0-9+/]{24,}"),
    _token("AKIA|ASIA|ABIA|ACCA", _at_word_start("A(?:KI|SI|BI|CC)A", "A-Za-z0-9+/"), r"[A-Z0-9]{16}(?![A-Za-z0-9+/])"),
    _token("AIza", "AIza", r"[\w-]{35,}"),
    _token("ya29.", r"ya29\.", r"[\w-]{20,}"),
    _token("GOCSPX-", "GOCSPX-", r"[\w-]{20,}"),
    _token("xox", r"xox[abeoprs]-", r"[A-Za-z0-9-]{10,}"),
    _token("xapp-", "xapp-", r"[A-Za-z0-9-]{20,}"),
    _token("hooks.slack.com", r"hooks\.slack\.com/(?:services|workflows)/", r"[\w/]{20,}"),
    _token("hf_", _at_word_start("hf_"), r"[A-Za-z0-9]{30,}"),
    _token("npm_", "npm_", r"[A-Za-z0-9]{36,}"),
    _token("pypi-", "pypi-AgE", r"[\w-]{40,}"),
    _token("SG.", r"SG\.", r"[\w-]{16,}\.[\w-]{16,}"),
    _token("gsk_", "gsk_", r"[A-Za-z0-9]{40,}"),
    _token("xai-", "xai-", r"[A-Za-z0-9]{40,}"),
    _token("dapi", "dapi", r"[a-f0-9]{32,}(?:-\d{1,3})?"),
    _token("ccountKey|ccesskey|ccessKey", r"A(?:ccount|ccess)[Kk]ey=", r"[A-Za-z0-9+/%]{20,}={0,2}", _is_credential),
    _token(
        "SharedAccessSignature", "SharedAccessSignature[= ]", r"[^\s;\"'`<>{}\\…]{16,}", lambda value: "sig=" in value
    ),
    _token("sig=", r"[?&;]sig=", r"[A-Za-z0-9%+/_-]{20,}={0,2}", _is_credential),
    _token(
        "password",
        rf"{NETRC_ENTRY}(?:account{NETRC_GAP}[^\s\\]{{1,100}}{NETRC_GAP})?password{NETRC_GAP}",
        r"[^\s\\\"'`…]{3,}+(?!…)",
        _is_password,
    ),
    _token("_v1_", "do[opr]_v1_", r"[a-f0-9]{40,}"),
    *(_token(each, _at_word_start(re.escape(each)), r"[\w.-]{16,}", looks_random) for each in sorted(OTHER_KEYS)),
    _token("discord", r"discord(?:app)?\.com/api/webhooks/\d{10,25}/", r"[\w-]{40,}"),
    _token(
        "username", r"\"username\\?\":\s{0,3}\\?\"[^\"\\]{1,100}\\?\",\s{0,9}\\?\"key\\?\":\s{0,3}\\?\"", "[a-f0-9]{32}"
    ),
    _token(
        "Private-Lines", r"Private-Lines: \d{1,3}", r"(?:(?:\\[nr]|\s){1,4}(?:\d{1,5}\t)?[A-Za-z0-9+/=]{8,64}){1,100}"
    ),
    _token(":AA", r"(?<!\d)\d{8,12}:AA", r"[\w-]{30,}"),  # a bot of Telegram
    _token("AGE-SECRET-KEY-", "AGE-SECRET-KEY-", r"[A-Z0-9]{40,}"),
    _token("eyJ", "eyJ", r"[\w-]{8,}(?:\.[\w-]{6,}){2,4}"),  # a JSON Web Token
    _token("://", r"://[^\s/:@\"'<>{}$]{0,100}:", r"[^\s/:@\"'<>{}$…]{3,200}(?=@[\w.\[])", _is_password),
    _token(
        "uthorization",
        r"[Aa]uthorization\\?[\"']?[ \t]{0,3}[:=][ \t]{0,3}\\?[\"']?(?i:basic|bearer|token)[ ]{1,3}",
        r"[\w.~+/-]{8,}={0,2}",
        _is_credential,
    ),
    _token("earer |EARER ", r"(?:[Bb]earer|BEARER)[ ]{1,3}", r"[\w.~+/-]{16,}={0,2}", looks_random),
)


class Redactor:
    """Masks secrets in texts, JSON and records. `known` are exact values, each with a name to show in its place."""

    def __init__(self, known: Mapping[str, str] | None = None) -> None:
        self.known = dict(known or {})
        usable = {
            value: name for value, name in self.known.items() if len(value) >= MIN_SECRET_CHARS and value not in MASK
        }
        written = {form: name for value, name in usable.items() for form in _forms(value)}
        self._cache: dict[str, str] = {}
        self._chars_left = MAX_CACHED_CHARS
        self._exact = [(form, written[form] + MASK) for form in sorted(written, key=lambda form: (-len(form), form))]

    def __call__(self, thing: T) -> T:
        """Return a text, JSON or a record without secrets; one that has none is returned itself."""
        return cast("T", self._masked(thing))

    def _masked(self, thing: Any) -> Any:
        if isinstance(thing, str):
            return self._text(thing) if len(thing) < MIN_CACHED_CHARS else self._cached_text(thing)
        if isinstance(thing, Mapping):
            masked: Any = {self._masked(key): self._masked(value) for key, value in thing.items()}
        elif isinstance(thing, list | tuple) and type(thing) in {list, tuple}:
            masked = type(thing)(map(self._masked, thing))
        elif isinstance(thing, tuple) and hasattr(thing, "_make"):  # a named tuple
            masked = thing._make(map(self._masked, thing))
        elif is_dataclass(thing) and not isinstance(thing, type):
            mine = {each.name: getattr(thing, each.name) for each in fields(thing) if each.init}
            changed = {name: new for name, old in mine.items() if (new := self._masked(old)) is not old}
            return replace(thing, **changed) if changed else thing
        else:
            return thing
        return thing if masked == thing else masked

    def _cached_text(self, text: str) -> str:
        """Return a text without secrets, from the cache if possible: a conversation is sent many times."""
        masked = self._cache.get(text)
        if masked is None:
            masked = self._text(text)
            self._chars_left -= len(text)
            if self._chars_left < 0:
                self._cache.clear()
                self._chars_left = MAX_CACHED_CHARS - len(text)
            if len(text) < MAX_CACHED_CHARS:
                self._cache[text] = masked
        return masked

    def _text(self, text: str) -> str:
        if len(text) < MIN_SECRET_CHARS:
            return text
        for value, mask in self._exact:
            if value in text:
                text = text.replace(value, mask)
        if "PRIVATE KEY" in text:
            text = _without_key_blocks(text)
        for pattern in PATTERNS:
            if any(sign in text for sign in pattern.signs):
                text = pattern.pattern.sub(pattern.masked, text)
        return without_assigned_secrets(text, MASK)


redact = Redactor()  #: knows patterns only


def _without_key_blocks(text: str) -> str:
    parts, at, end = [], 0, END.search(text)
    begin = BEGIN.search(text)
    while begin is not None:
        parts.append(text[at : begin.end()])
        at, begin = begin.end(), BEGIN.search(text, begin.end())
        while end is not None and end.start() < at:
            end = END.search(text, end.end())
        if end is not None and end.start() <= min(at + MAX_KEY_BLOCK_CHARS, begin.start() if begin else len(text)):
            past = end.start()
        else:  # its end is missing
            lines = KEY_LINES.match(text, at)
            past = lines.end() if lines else at
        if KEY_MATERIAL.search(text, at, past):
            parts.append(MASK)
            at = past
    return "".join([*parts, text[at:]])


def _forms(value: str) -> set[str]:
    """Return the forms of a value: as it is, in JSON, in a URL."""
    return {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], quote(value, safe="")}
