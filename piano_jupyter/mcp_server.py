"""An MCP server: how it is set, in one form for PianoConfig and for `.mcp.json`, and how it is now."""

import json
import os
import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from piano_jupyter.errors import PianoError
from piano_jupyter.secrets.known_secrets import SECRET_NAME
from piano_jupyter.secrets.redactor import redact

SERVER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(:-[^}]*)?\}")
#: Letters and digits, and nothing that a shell or an interpreter obeys: what runs must not be hidden as a key.
LOOKS_LIKE_KEY = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[\w.=+~:-]{16,}", re.ASCII).fullmatch
FLAG_VALUE = re.compile(r"[\w.=+~:-]{8,}", re.ASCII).fullmatch
NOT_SHOWN = "(not shown)"
KINDS = {"stdio": "command", "http": "url", "streamable-http": "url"}  #: of connections, with what each needs
MAX_SERVERS = 50
EXAMPLE = '{"time": {"command": "uvx", "args": ["mcp-server-time"]}} or {"docs": {"url": "https://…/mcp"}}'
State = Literal["not trusted", "not started", "starting", "running", "stopped", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class McpServerSettings:
    """How one MCP server is reached: a program, or an address. Values in `env` and `headers` may be secrets."""

    name: str
    source: str  #: where it is set
    command: str = ""  #: the program, "" if it has an address
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)  #: what the program gets besides the usual
    url: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def runs(self) -> str:
        """What runs or is asked, for people: without secrets, but with the variables that it reads."""
        texts = [self.command, *self.args, *self.env.values(), self.url, *self.headers.values()]
        read = dict.fromkeys(found[1] for text in texts for found in VARIABLE.finditer(text))
        reads = f"; reads ${', $'.join(read)}" if read else ""
        if self.url:
            parts = urlsplit(self.url)
            path = "/".join("…" if LOOKS_LIKE_KEY(each) else each for each in parts.path.split("/"))
            place = f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""  # a variable may stand for all of it
            more = f" with the headers {', '.join(self.headers)}" if self.headers else ""
            return redact(f"{place}{path}{'?…' if parts.query else ''}{more}{reads}")
        keys = self._keys_in_args()
        args = [f"{arg.removesuffix(keys[at])}{NOT_SHOWN}" if at in keys else arg for at, arg in enumerate(self.args)]
        given = [
            f"{name} {NOT_SHOWN}" if _is_key(name, value) else f"{name}={shlex.quote(value)}"
            for name, value in self.env.items()
        ]
        return redact(shlex.join([self.command, *args]) + (f" with {', '.join(given)}" if given else "")) + reads

    @property
    def identity(self) -> str:
        """What the server is, as JSON: it changes when anything but a secret does."""
        parts = urlsplit(self.url)
        place = [parts.scheme, parts.netloc, parts.path]
        return json.dumps([self.name, self.command, self.args, sorted(self.env), place, sorted(self.headers)])

    def expanded(self, environ: Mapping[str, str] = os.environ) -> "McpServerSettings":
        """Return it with the values of `${NAME}` and `${NAME:-default}`. Raises PianoError for a missing variable."""

        def fill(text: str) -> str:
            return VARIABLE.sub(value, text)

        def value(found: re.Match[str]) -> str:
            if found[1] in environ:
                return environ[found[1]]
            if found[2] is None:
                raise PianoError(f"the environment has no variable {found[1]}, which the MCP server {self.name} needs")
            return found[2].removeprefix(":-")

        return replace(
            self,
            command=fill(self.command),
            args=tuple(map(fill, self.args)),
            env={name: fill(each) for name, each in self.env.items()},
            url=fill(self.url),
            headers={name: fill(each) for name, each in self.headers.items()},
        )

    def secrets(self, environ: Mapping[str, str] = os.environ) -> list[str]:
        """Return what is never to be stored or shown: values of headers; keys in variables, arguments, addresses."""
        try:
            known = self.expanded(environ)
        except PianoError:
            known = self
        variables = [value for name, value in known.env.items() if _is_key(name, value)]
        address: list[str] = []
        with suppress(ValueError):  # a variable has what is no address
            parts = urlsplit(known.url)
            address = [*dict(parse_qsl(parts.query)).values(), *filter(LOOKS_LIKE_KEY, parts.path.split("/"))]
        values = [*known.headers.values(), *variables, *known._keys_in_args().values(), *address]
        return [word for value in values for word in (value, *value.split()[1:])]

    def _keys_in_args(self) -> dict[int, str]:
        """Return the values of options that are called like a key, by the place of their argument."""
        found: dict[int, str] = {}
        before = ""  # the option that stands before, without a value
        for at, arg in enumerate(self.args):
            name, is_given, rest = arg.partition("=")
            is_option = name.startswith("-")
            option, value = (name, rest) if is_option else (before, arg)
            if SECRET_NAME.search(option.replace("-", "_")) and FLAG_VALUE(value):
                found[at] = value
            before = name if is_option and not is_given else ""
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class McpTool:
    """A tool of an MCP server, for people: `hints` is what the server says of itself, which nothing relies on."""

    name: str
    description: str
    hints: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class McpText:
    """A text that a server offers for questions: a resource, or a prompt.

    Attributes:
        name: The name of the prompt, or the address of the resource.
        description: What the server says of it.
        is_prompt: Whether it is a prompt.
        arguments: The arguments of the prompt, as a question writes them, and as the server calls them.
        needs: Those that it must be given.
    """

    name: str
    description: str
    is_prompt: bool = False
    arguments: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()

    def placeholder(self, server: str) -> str:
        """Return what inserts it into a question, with a blank value for each argument that it needs."""
        given = [f'{name}=""' for name in self.needs]
        return f"mcp({', '.join([_literal(server), _literal(self.name), *given])})"


@dataclass(frozen=True, kw_only=True, slots=True)
class McpServer:
    """An MCP server as it is now.

    Attributes:
        name: Its name; its tools are called `name.tool`.
        source: Where it is set: "PianoConfig.mcp_servers" or ".mcp.json".
        runs: The program that runs, or the address that is asked, without secrets.
        state: "not trusted", "not started", "starting", "running", "stopped" or "failed".
        problem: Why it is not running, and what to do; "" if nothing is wrong.
        tools: Its tools, by name; those of its last list if it does not run.
        texts: Its prompts and resources, which a question can have (`read_mcp_text`).
        left_out: The tools, prompts and resources that cannot be used, a sentence each.
    """

    name: str
    source: str
    runs: str
    state: State
    problem: str = ""
    tools: tuple[McpTool, ...] = ()
    texts: tuple[McpText, ...] = ()
    left_out: tuple[str, ...] = ()


def parse_servers(given: Any, source: str, left_out: dict[str, str] | None = None) -> dict[str, McpServerSettings]:
    """Return servers by name, from a mapping of names to what each runs. Raises PianoError, without any value of it.

    With `left_out`, a server that is set wrongly is not in the result, but there, with what is wrong.
    """
    if not isinstance(given, Mapping):
        raise PianoError(f"{source} must be a mapping of names to servers, such as {EXAMPLE}")
    if len(given) > MAX_SERVERS:
        raise PianoError(f"{source} has {len(given)} servers, and {MAX_SERVERS} are the most")
    found: dict[str, McpServerSettings] = {}
    for name, each in given.items():
        if not _is_disabled(each):
            try:
                found[name] = _parse_server(name, each, source)
            except PianoError as error:
                if left_out is None:
                    raise
                left_out[str(name)] = str(error)
    twice = {name.casefold() for name in found}
    if len(twice) < len(found):
        raise PianoError(f"{source} has two servers whose names differ in case only; rename one")
    return found


def _is_disabled(given: Any) -> bool:
    return isinstance(given, Mapping) and given.get("disabled") is True


def _parse_server(name: Any, given: Any, source: str) -> McpServerSettings:
    if not isinstance(name, str) or not SERVER_NAME.fullmatch(name):
        shown = repr(name)[:60]
        raise PianoError(
            f"{source}: {shown} cannot be the name of a server; use at most 32 letters, digits, _ and -, no dots"
        )
    where = f"{source}: the server {name!r}"
    if not isinstance(given, Mapping):
        raise PianoError(f"{where} must be a mapping with a command or a url, such as {EXAMPLE}")
    kind = given.get("type", "http" if "url" in given else "stdio")
    if kind not in KINDS:
        raise PianoError(f"{where} has a type that Piano does not speak; it speaks stdio and http (streamable HTTP)")
    if not given.get(KINDS[kind]) or ("command" in given and "url" in given):
        raise PianoError(f"{where} needs a command or a url, and not both: {EXAMPLE}")
    settings = McpServerSettings(
        name=name,
        source=source,
        command=_text(given.get("command", ""), f"{where}: command"),
        args=tuple(_text(each, f"{where}: args") for each in _list(given.get("args", ()), f"{where}: args")),
        env=_texts(given.get("env", {}), f"{where}: env"),
        url=_text(given.get("url", ""), f"{where}: url"),
        headers=_texts(given.get("headers", {}), f"{where}: headers"),
    )
    if settings.url:
        _check_address(settings.url, where)
    return settings


def _check_address(url: str, where: str) -> None:
    try:
        parts = urlsplit(VARIABLE.sub("1", url))
        valid = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        valid = False
    if not valid and not url.startswith("${"):
        raise PianoError(f"{where} must have a url like https://host/mcp, without a user name; keys belong in headers")


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise PianoError(f"{where} must be text")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise PianoError(f"{where} must be a list of texts")
    return list(value)


def _texts(value: Any, where: str) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise PianoError(f"{where} must be a mapping of names to texts")
    return {_text(name, where): _text(each, where) for name, each in value.items()}


def _is_key(name: str, value: str) -> bool:
    """Return whether the value of a variable may be a key."""
    return bool(SECRET_NAME.search(name) or LOOKS_LIKE_KEY(value))


def _literal(text: str) -> str:
    """Return a text as Python writes it, in double quotes."""
    return json.dumps(text, ensure_ascii=False)
