"""PianoConfig: every setting. Read one where it is used, so that `%config PianoConfig.NAME = value` works at once."""

import os
import socket
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from traitlets import Bool, Dict, Enum, Float, Int, List, TraitError, Unicode, Union, default, validate
from traitlets.config import Configurable

from piano_jupyter.errors import PianoError
from piano_jupyter.mcp_server import parse_servers
from piano_jupyter.records import Mode
from piano_jupyter.rules import parse_rule
from piano_jupyter.secrets.redactor import MIN_SECRET_CHARS, redact
from piano_jupyter.tool import MODES

ROOT_MARKS = ("pyproject.toml", ".git", ".agents")
NO_PROXY = "none"  #: the value of `proxy` for none at all
PASTED_PATHS = ("/chat/completions", "/completions", "/models")  #: of requests, not of a server
CLOUD_METADATA_HOSTS = {"metadata.google.internal", "fd00:ec2::254", "100.100.100.200"}  #: besides 169.254.0.0/16


class _Servers(Dict):
    """Servers by name; an error does not quote them, and `repr` hides what may be a key."""

    def error(self, *_: Any, **__: Any) -> NoReturn:
        """Raise a TraitError without the value."""
        raise TraitError("mcp_servers must be a dict of names to servers")


class PianoConfig(Configurable):
    """The settings of Piano. A change counts at once.

    Set them with `%config PianoConfig.NAME = value` in a notebook, with `c.PianoConfig.NAME = value` in
    `ipython_config.py`, or as keyword arguments of `Piano`. `%config PianoConfig` and `%piano help settings` list
    them; `piano.config` is the `PianoConfig` of a Piano.

    Raises:
        traitlets.TraitError: A value is of the wrong type or out of bounds.

    Example:
        >>> config = PianoConfig(max_demand=2)
        >>> config.max_demand
        2
        >>> async with Piano(config=config, database=":memory:") as chat:
        ...     chat.config.tool_timeout = 30.0  # seconds
    """

    workspace = Unicode(
        help="The folder that file tools can reach and that holds `.piano/`. "
        "Default: the nearest parent below the home folder with pyproject.toml, .git or .agents, else the working "
        "directory."
    )
    database = Unicode(
        help="The DuckDB file that stores everything, or ':memory:' to keep nothing. "
        "Default: .piano/piano.duckdb in the workspace."
    )
    base_url = Unicode(
        help="The address of an OpenAI-compatible server, with /v1. "
        "Default: $PIANO_BASE_URL, else http://localhost:8080/v1."
    )
    api_key = Unicode(help="The key for that server. Default: $PIANO_API_KEY. Never stored.")
    verify = Union(
        [Bool(), Unicode()],
        default_value=True,
        help="How the certificate of an https server is checked: True (against the usual authorities, or those in "
        "$SSL_CERT_FILE and $SSL_CERT_DIR), a file or folder with the authorities to trust, or False (not at all: "
        "anyone on the way can read and change what is sent). It counts for MCP servers, too.",
    )
    proxy = Unicode(
        help="The address of the proxy to that server, or 'none'. Default: $HTTPS_PROXY, $HTTP_PROXY, $ALL_PROXY and "
        "$NO_PROXY, except for addresses of this machine. It counts for MCP servers, too."
    )
    default_model = Unicode(
        "qwen3:32b", help="The model of the first agent, and of agents that are created without one."
    )
    embedded = Enum(
        ["auto", "never", "only"],
        "auto",
        help="When to use the embedded model: 'auto' (if no server answers at base_url), 'never', or 'only'.",
    )
    skills_paths = List(
        Unicode(), help="More folders with skills, searched before the workspace's skills/ and .agents/skills/."
    )
    mode: Enum[Mode] = Enum(
        MODES,
        "write",
        help="What tools may do: 'read' (nothing is changed), 'write' (only in the workspace, no network), "
        "'full' (anything, with your rights).",
    )
    rules = List(
        Unicode(),
        help="Which tool calls run, ask for approval or are denied: 'allow bash(git status)', 'ask edit_file', "
        "'deny bash(curl *)'; deny goes before ask, ask before allow.",
    )
    mcp_servers = _Servers(
        help="MCP servers by name: {'time': {'command': 'uvx', 'args': ['mcp-server-time'], 'env': {}}}, or "
        "{'docs': {'url': 'https://host/mcp', 'headers': {'Authorization': 'Bearer ${DOCS_KEY}'}}}. ${NAME} is a "
        "variable of the environment. Their programs run with your rights, outside the sandbox.",
    )
    mcp_timeout = Float(30.0, min=0.1, help="How many seconds an MCP server may take to start and to tell its tools.")
    mask_secrets = Bool(
        default_value=True,
        help="Whether keys, tokens and passwords are masked in what is stored, shown, logged and sent to the model.",
    )
    max_demand = Int(1, min=1, help="How many jobs run at once on one model.")
    max_in_flight = Int(
        None,
        min=1,
        allow_none=True,
        help="How many rows of batches are asked at once on one server. Default: as many as the server says that it "
        "answers at once, else 4.",
    )
    max_wait_s = Float(
        60.0,
        min=0.0,
        help="How many seconds a job may wait behind newer ones whose model is loaded, on a server that swaps models.",
    )
    max_iterations = Int(10, min=1, help="How many times a turn may ask the model.")
    max_tool_calls = Int(50, min=1, help="How many tool calls a turn may make; further ones are refused.")
    summarize = Bool(
        default_value=False,
        help="Whether the agent's model summarizes the turns that no longer fit into its context window; the summary "
        "is stored as a note.",
    )
    share = Bool(
        help="Whether the notebooks and scripts that use one database file share it, through a small process that they "
        "start. If not, or with PIANO_SHARE=0 in the environment, the first one has it for itself.",
    )
    max_attempts = Int(3, min=1, help="How many times a job is started before it fails, if its kernel dies each time.")
    connect_timeout = Float(3.0, min=0.05, help="How many seconds to wait for a connection to the server.")
    first_byte_timeout = Float(
        600.0, min=0.1, help="How many seconds to wait for an answer to begin, loading included."
    )
    idle_timeout = Float(60.0, min=0.1, help="How many seconds the server may be silent in the middle of an answer.")
    tool_idle_timeout = Float(
        300.0,
        min=0.1,
        help="How many seconds the server may be silent where tools or a schema are offered, as many servers send a "
        "tool call only once it is complete. Comments that keep the connection alive extend it, up to "
        "first_byte_timeout.",
    )
    request_retries = Int(
        3,
        min=0,
        help="How many times a request whose answer has not begun is sent again. One that breaks off in the middle is "
        "sent again once, or not at all for 0.",
    )
    text_calls = Bool(
        default_value=True,
        help="Whether an answer that is nothing but a tool call, written as text, is run as a tool call.",
    )
    stop_loops = Bool(
        default_value=True,
        help="Whether an answer is stopped when the model repeats the same sentences without end. Turn it off to have "
        "something repeated.",
    )
    max_turn_tokens = Int(0, min=0, help="How many tokens a turn may read and write in all; 0 means no limit.")
    max_turn_s = Float(3600.0, min=0.1, help="How many seconds a turn may take, tools and loading included.")
    tool_timeout = Float(120.0, min=0.1, help="How many seconds a tool other than bash may run.")
    bash_timeout = Float(600.0, min=1.0, max=600.0, help="How many seconds a command of bash may run at most.")
    bash_memory = Float(
        8.0,
        min=0.25,
        help="How many GiB of memory a process in the sandbox of bash may use, and all of them together if the system "
        "can limit that.",
    )
    bash_processes = Int(512, min=8, help="How many processes may run in the sandbox of bash.")
    readable_paths = List(
        Unicode(),
        help="More folders that bash may read in its sandbox, besides the system, Python and the workspace. If the "
        "home folder is in the workspace, also the names with a dot in it that file tools may read.",
    )
    tool_output_limit = Int(30_000, min=200, help="How many characters of a tool result are stored.")
    approval_timeout = Float(300.0, min=0.1, help="How many seconds a tool call waits for approval; then it is denied.")
    frame_tokens = Int(
        1500,
        min=500,
        help="How many tokens, of about 4 characters each, a data frame in a question takes; a third of the model's "
        "context window at most, if that is known.",
    )
    panel_messages = Int(50, min=1, help="How many messages the panel shows at first.")
    shutdown_timeout = Float(2.0, min=0.0, help="How many seconds a running job may still take when the kernel ends.")

    @default("workspace")
    def _find_workspace(self) -> str:
        try:
            here = Path.cwd()
        except FileNotFoundError:
            raise PianoError("the working folder was deleted; go to another one (%cd), then try again") from None
        home = Path(os.path.realpath(Path.home()))  # the first one has its links resolved, too
        above = (each for each in (here, *here.parents) if not home.is_relative_to(each))  # ~/.agents is the user's own
        found = (each for each in above if any((each / mark).exists() for mark in ROOT_MARKS))
        return str(next(found, here))

    @validate("workspace")
    def _absolute_workspace(self, proposal: dict[str, str]) -> str:
        return str(Path(proposal["value"]).expanduser().absolute())

    @validate("rules")
    def _sensible_rules(self, proposal: dict[str, list[str]]) -> list[str]:
        try:
            return [parse_rule(rule).text for rule in proposal["value"]]
        except PianoError as error:
            raise TraitError(str(error)) from error

    @validate("mcp_servers")
    def _sensible_servers(self, proposal: dict[str, dict[str, Any]]) -> dict[str, Any]:
        try:
            parsed = parse_servers(proposal["value"], "mcp_servers")
        except PianoError as error:
            raise TraitError(str(error)) from error
        secrets = {name: each.secrets() for name, each in parsed.items()}
        return {name: _with_hidden_values(each, secrets.get(name, ())) for name, each in proposal["value"].items()}

    @default("database")
    def _place_database(self) -> str:
        return str(Path(self.workspace, ".piano", "piano.duckdb"))

    @default("share")
    def _share_by_environment(self) -> bool:
        return os.environ.get("PIANO_SHARE") != "0"

    @default("base_url")
    def _server_from_environment(self) -> str:
        return plain_address(os.environ.get("PIANO_BASE_URL", "http://localhost:8080/v1"))

    @validate("base_url")
    def _plain_address(self, proposal: dict[str, str]) -> str:
        return plain_address(proposal["value"])

    @validate("verify")
    def _certificates_path(self, proposal: dict[str, bool | str]) -> bool | str:
        value = proposal["value"]
        return (str(Path(value.strip()).expanduser()) if value.strip() else True) if isinstance(value, str) else value

    @validate("proxy")
    def _plain_proxy(self, proposal: dict[str, str]) -> str:
        value = proposal["value"].strip()
        return value if "://" in value or value in {"", NO_PROXY} else f"http://{value}"

    @default("api_key")
    def _key_from_environment(self) -> str:
        return plain_key(os.environ.get("PIANO_API_KEY", ""))

    @validate("api_key")
    def _plain_key(self, proposal: dict[str, str]) -> str:
        return plain_key(proposal["value"])


for _setting in PianoConfig.class_own_traits().values():
    _setting.tag(config=True)  # each can be set by `%config` and in `ipython_config.py`


class Secret(str):
    """A text with a `repr` that hides it: `%config PianoConfig` prints that into the notebook."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'(set, not shown)'" if self else "''"


def _with_hidden_values(server: Mapping[str, Any], secrets: Iterable[str]) -> dict[str, Any]:
    """Return the settings of a server whose `repr` hides what may be a key."""

    def hide(text: str) -> str:
        return Secret(text) if any(each in text for each in long) else text

    long = [each for each in secrets if len(each) >= MIN_SECRET_CHARS]

    hidden: dict[str, Any] = {
        part: {name: Secret(value) for name, value in server[part].items()}
        for part in ("env", "headers")
        if part in server
    }
    if "args" in server:
        hidden["args"] = [hide(each) for each in server["args"]]
    if "url" in server:
        hidden["url"] = Secret(server["url"]) if "?" in server["url"] else hide(server["url"])
    return {**server, **hidden}


def plain_key(key: str) -> Secret:
    """Return a key without surrounding blanks. Raises TraitError, without the key, if no HTTP header can carry it."""
    if not key.strip().isascii() or not key.strip().isprintable():
        raise TraitError("api_key holds characters that an HTTP header cannot carry")
    return Secret(key.strip())


def plain_address(url: str) -> str:
    """Return a server's address without blanks around it, its last slash, and the path of a request pasted with it.

    Raises TraitError if it is no address, has a user name, or is where a cloud gives out the keys of a machine.
    """
    wrong = TraitError(
        f"base_url must look like http://localhost:8080/v1, without a user name, not {redact(url)!r}; "
        f"set api_key for a key"
    )
    url = url.strip().rstrip("/")
    for path in PASTED_PATHS:
        url = url.removesuffix(path).rstrip("/")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc or port == 0:
        raise wrong
    if parts.query or parts.fragment or any(letter.isspace() for letter in url):
        raise wrong
    if is_metadata_host(parts.hostname):
        raise TraitError(f"base_url must not be {url!r}: there a cloud gives out the keys of a machine")
    return url


def is_metadata_host(host: str) -> bool:
    """Return whether a host is where a cloud gives out the keys of a machine, however its address is written."""
    name = host.rstrip(".").partition("%")[0]
    address: IPv4Address | IPv6Address
    try:
        address = ip_address(name)
    except ValueError:
        try:
            address = IPv4Address(socket.inet_aton(name))  # 0xA9FEA9FE is one to the system, as is 2852039166
        except (OSError, UnicodeEncodeError):
            return name in CLOUD_METADATA_HOSTS
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_link_local or str(address) in CLOUD_METADATA_HOSTS


def configured(config: PianoConfig | None = None, **settings: object) -> PianoConfig:
    """Return `config`, or a new one, with these settings. Raises PianoError for an unknown one or a wrong value."""
    config = config or PianoConfig()
    known = config.trait_names(config=True)
    for name, value in settings.items():
        if name not in known:
            raise PianoError(f"no setting named {name!r}; known: {', '.join(sorted(known))}")
        try:
            setattr(config, name, str(value) if isinstance(value, Path) else value)
        except TraitError as error:
            raise PianoError(str(error)) from error
    try:
        _ = config.base_url, config.api_key  # a default from the environment is checked when it is first read
    except TraitError as error:
        raise PianoError(f"PIANO_BASE_URL or PIANO_API_KEY: {error}") from error
    return config
