"""The secrets that this machine is known to hold: keys in the environment, the tokens of its Jupyter servers."""

import functools
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TypeVar

from piano_jupyter.secrets.redactor import SHORTEST, Redactor

T = TypeVar("T")

SECRET_NAME = re.compile(
    r"PASSW(?:OR)?D|PASSPHRASE|SECRET|(?:^|_)(?:API|ACCESS|AUTH)?_?(?:CREDENTIALS?|KEY|PASS|PAT|TOKEN)$", re.IGNORECASE
)
IN_URL = re.compile(r"://[^\s/:@]{0,100}:([^\s/@]{1,200})@")
PLACE = re.compile(r"[~./\\]|[A-Za-z][A-Za-z0-9+.-]{0,20}:(?://|\\)")  # a path or an address
SHORTEST_WORD = 16  #: letters: what is shorter may be a word that people use
MOST_SERVERS = 200
FRESH = 0.05  #: seconds for which they are known: an answer is masked word by word


class SecretMask:
    """Takes the secrets out of a text, JSON or a record, as far as they are known at that moment."""

    def __init__(self, *, wanted: Callable[[], bool], keys: Callable[[], Iterable[str]]) -> None:
        self._wanted, self._keys = wanted, keys
        self._redactor = Redactor()
        self._own: dict[str, str] = {}
        self._due = 0.0  #: when they are looked up anew, as `time.monotonic` has it

    def __call__(self, thing: T) -> T:
        """Return it without them."""
        if not self._wanted():
            return thing
        if time.monotonic() >= self._due:
            self._own, self._due = own_secrets(os.environ), time.monotonic() + FRESH
        known = self._own | dict.fromkeys(filter(None, self._keys()), "api_key ")
        if known != self._redactor.known:
            self._redactor = Redactor(known)
        return self._redactor(thing)


def own_secrets(environ: Mapping[str, str], runtime: Path | None = None) -> dict[str, str]:
    """Return what is secret, each value with what to call it.

    `runtime` is the folder in which Jupyter's servers say where they are, by default the user's.
    """
    from jupyter_core.paths import jupyter_runtime_dir  # noqa: PLC0415  Loaded in every kernel, and nowhere else.

    found = dict.fromkeys(_server_tokens(runtime or Path(jupyter_runtime_dir())), "Jupyter's token ")
    for name, value in environ.items():
        secrets = [value] if SECRET_NAME.search(name) and not PLACE.match(value) else IN_URL.findall(value)
        found |= dict.fromkeys(filter(_is_secret, secrets), f"${name} ")
    return found


def _is_secret(value: str) -> bool:
    return len(value) >= SHORTEST and not value.isdigit() and (len(value) >= SHORTEST_WORD or not value.isalpha())


def _server_tokens(folder: Path) -> Iterable[str]:
    try:
        return _tokens_in(folder, folder.stat().st_mtime_ns)
    except OSError:
        return ()  # no server has ever run


@functools.lru_cache(maxsize=4)
def _tokens_in(folder: Path, _changed: int) -> tuple[str, ...]:
    """Read the files of the servers; again only when one has come or gone."""
    tokens = []
    for file in islice(folder.glob("*server-*.json"), MOST_SERVERS):
        try:
            token = json.loads(file.read_text(encoding="utf-8")).get("token")
        except (OSError, ValueError, AttributeError):
            continue  # being written, or no server's
        if isinstance(token, str) and len(token) >= SHORTEST:
            tokens.append(token)
    return tuple(tokens)
