"""The secrets that this machine is known to hold: keys in the environment, the tokens of its Jupyter servers."""

import functools
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TypeVar

from piano_jupyter.secrets.redactor import MIN_SECRET_CHARS, Redactor
from piano_jupyter.text.json_text import parse_json

T = TypeVar("T")

SECRET_NAME = re.compile(
    r"PASSW(?:OR)?D|PASSPHRASE|SECRET|(?:^|_)(?:API|ACCESS|AUTH)?_?(?:CREDENTIALS?|KEY|PASS|PAT|TOKEN)$", re.IGNORECASE
)
PASSWORD_IN_URL = re.compile(r"://[^\s/:@]{0,100}:([^\s/@]{1,200})@")
PATH_OR_URL = re.compile(r"[~./\\]|[A-Za-z][A-Za-z0-9+.-]{0,20}:(?://|\\)")  # which are no secrets
MIN_WORD_CHARS = 16  #: a shorter value of letters only may be an ordinary word
MAX_SERVERS = 200
REFRESH_S = 0.05  #: between two look-ups: an answer is masked word by word


class SecretMask:
    """Masks the secrets in a text, JSON or a record, those known at that moment."""

    def __init__(self, *, wanted: Callable[[], bool], keys: Callable[[], Iterable[str]]) -> None:
        self._wanted, self._keys = wanted, keys
        self._redactor = Redactor()
        self._environment: dict[str, str] = {}
        self._due = 0.0  #: when to look them up again, by `time.monotonic`

    def __call__(self, thing: T) -> T:
        """Return a copy without secrets, or the thing itself if it has none."""
        if not self._wanted():
            return thing
        if time.monotonic() >= self._due:
            self._environment, self._due = own_secrets(os.environ), time.monotonic() + REFRESH_S
        known = self._environment | dict.fromkeys(filter(None, self._keys()), "api_key ")
        if known != self._redactor.known:
            self._redactor = Redactor(known)
        return self._redactor(thing)


def own_secrets(environ: Mapping[str, str], runtime: Path | None = None) -> dict[str, str]:
    """Return the secret values, each with a name to show in its place.

    `runtime` is Jupyter's runtime folder, by default the user's.
    """
    from jupyter_core.paths import jupyter_runtime_dir  # noqa: PLC0415  Every kernel has loaded it; others need not.

    found = dict.fromkeys(_server_tokens(runtime or Path(jupyter_runtime_dir())), "Jupyter's token ")
    for name, value in environ.items():
        secrets = (
            [value] if SECRET_NAME.search(name) and not PATH_OR_URL.match(value) else PASSWORD_IN_URL.findall(value)
        )
        found |= dict.fromkeys(filter(is_secret, secrets), f"${name} ")
    return found


def is_secret(value: str) -> bool:
    """Return whether a value is long and odd enough that to mask it hides no ordinary words."""
    return (
        len(value) >= MIN_SECRET_CHARS and not value.isdigit() and (len(value) >= MIN_WORD_CHARS or not value.isalpha())
    )


def _server_tokens(folder: Path) -> Iterable[str]:
    try:
        return _tokens_in(folder, folder.stat().st_mtime_ns)
    except OSError:
        return ()  # no server has ever run here


@functools.lru_cache(maxsize=4)
def _tokens_in(folder: Path, _changed: int) -> tuple[str, ...]:
    """Read the tokens of the servers; again only when a server started or stopped."""
    tokens = []
    for file in islice(folder.glob("*server-*.json"), MAX_SERVERS):
        try:
            token = parse_json(file.read_text(encoding="utf-8")).get("token")
        except (OSError, ValueError, AttributeError):
            continue  # being written, or another kind of file
        if isinstance(token, str) and len(token) >= MIN_SECRET_CHARS:
            tokens.append(token)
    return tuple(tokens)
