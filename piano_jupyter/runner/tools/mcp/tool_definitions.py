"""ToolDefinition: a tool as its server describes it, made safe: everything in it is text of somebody else's.

Names are checked; descriptions and schemas lose control and invisible characters, and are bounded. A tool that cannot
be used is left out, and a sentence says why.
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from piano_jupyter.runner.schema.validator import schema_problem
from piano_jupyter.runner.tools.mcp.message_limits import MAX_DESCRIPTION_CHARS, MAX_SCHEMA_CHARS, MAX_SCHEMA_DEPTH
from piano_jupyter.runner.tools.tool_registry import make_readable
from piano_jupyter.text.invisible import to_the_letter
from piano_jupyter.text.json_text import is_deeper
from piano_jupyter.text.truncation import truncated
from piano_jupyter.tool import name_for_model

TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
HINTS = {
    "readOnlyHint": ("only reads", ""),
    "destructiveHint": ("may destroy", "destroys nothing"),
    "openWorldHint": ("reaches other systems", ""),
}
MAX_NAME_SHOWN = 80
Mask = Callable[[str], str]


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolDefinition:
    """A tool of a server."""

    name: str  #: with that of the server: `github.search`
    own_name: str  #: as the server calls it
    description: str
    parameters: Mapping[str, Any]
    hints: str  #: what the server says that the tool does and does not; shown, never relied on
    digest: str  #: changes with the description, the schema, and what the server is


def read_definitions(
    server: str, identity: str, tools: Iterable[Mapping[str, Any]], mask: Mask
) -> tuple[list[ToolDefinition], list[str]]:
    """Return a server's tools, and a sentence for each that is left out."""
    found: list[ToolDefinition] = []
    problems = []
    for each in tools:
        own_name = str(each.get("name", ""))
        parameters, problem = _parameters(each.get("inputSchema"), mask)
        if not TOOL_NAME.fullmatch(own_name):
            problem = "its name has other characters than letters, digits, _, - and ., or is too long"
        if problem:
            problems.append(left_out("tool", own_name, problem, mask))
            continue
        found.append(
            ToolDefinition(
                name=f"{server}.{own_name}",
                own_name=own_name,
                description=_text(each.get("description") or each.get("title") or "", mask),
                parameters=parameters,
                hints=_hints(each.get("annotations")),
                digest=_digest(identity, each),
            )
        )
    return found, problems


def without_taken_names(
    tools: Iterable[ToolDefinition], taken: Collection[str], mask: Mask
) -> tuple[dict[str, ToolDefinition], list[str]]:
    """Return the tools by name without those that another tool is called like, for which there is a sentence each."""
    found: dict[str, ToolDefinition] = {}
    names = {name_for_model(each).casefold() for each in taken}
    problems = []
    for each in tools:
        name = name_for_model(each.name).casefold()
        if name in names:
            problems.append(left_out("tool", each.own_name, "another tool has the same name", mask))
        else:
            names.add(name)
            found[each.name] = each
    return found, problems


def left_out(what: str, name: str, problem: str, mask: Mask) -> str:
    """Return the sentence about a tool, a prompt or a resource that cannot be used."""
    shown = truncated(to_the_letter(mask(name)).replace("\n", " "), MAX_NAME_SHOWN)
    return f"the {what} {shown!r} is left out: {problem}"


def invalid_left_out(what: str, names: Iterable[str], mask: Mask) -> list[str]:
    """Return the sentences about what does not fit the protocol."""
    return [left_out(what, each, "it does not fit the protocol", mask) for each in names]


def _text(value: Any, mask: Mask) -> str:
    return make_readable(str(value), MAX_DESCRIPTION_CHARS, mask).strip() or "(no description)"


def _parameters(schema: Any, mask: Mask) -> tuple[Mapping[str, Any], str]:
    """Return a schema with its texts made safe, and what is wrong with it."""
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        return {}, "its parameters are not described as an object"
    if is_deeper(schema, MAX_SCHEMA_DEPTH):
        return {}, "its schema is nested too deeply"
    if len(json.dumps(schema)) > MAX_SCHEMA_CHARS:
        return {}, f"its schema is longer than {MAX_SCHEMA_CHARS:,} characters"
    clean = {"type": "object", "properties": {}, **_clean(schema, mask)}
    problem = schema_problem(clean)
    return clean, f"its schema is wrong: {truncated(problem, 200)}" if problem else ""


def _clean(value: Any, mask: Mask) -> Any:
    if isinstance(value, str):
        return make_readable(value, MAX_DESCRIPTION_CHARS, mask)
    if isinstance(value, dict):
        return {make_readable(str(name), 200, mask): _clean(each, mask) for name, each in value.items()}
    return [_clean(each, mask) for each in value] if isinstance(value, list) else value


def _hints(annotations: Any) -> str:
    said = annotations if isinstance(annotations, Mapping) else {}
    words = [(yes if said[hint] else no) for hint, (yes, no) in HINTS.items() if isinstance(said.get(hint), bool)]
    return ", ".join(filter(None, words))


def _digest(identity: str, tool: Mapping[str, Any]) -> str:
    about = {name: tool.get(name) for name in ("name", "title", "description", "inputSchema", "annotations")}
    text = json.dumps([identity, about], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
