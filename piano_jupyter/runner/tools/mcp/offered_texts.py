"""The prompts and resources that a server offers for questions, made safe as tools are, and what they contain."""

import keyword
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.mcp_server import McpText
from piano_jupyter.runner.tools.mcp.tool_definitions import Mask, left_out
from piano_jupyter.runner.tools.mcp.tool_results import part_text
from piano_jupyter.runner.tools.tool_registry import make_readable
from piano_jupyter.text.invisible import to_the_letter

MAX_NAME_CHARS, MAX_ABOUT_CHARS, MAX_ARGUMENTS = 1000, 500, 50


def read_texts(what: str, listed: Iterable[Mapping[str, Any]], mask: Mask) -> tuple[dict[str, McpText], list[str]]:
    """Return "prompts" or "resources" by name, and a sentence for each that is left out."""
    is_prompt = what == "prompts"
    found: dict[str, McpText] = {}
    problems = []
    for each in listed:
        name = str(each.get("name" if is_prompt else "uri") or "")
        arguments = each.get("arguments") or []
        own_names = {_keyword(str(argument.get("name"))): str(argument.get("name")) for argument in arguments}
        if not 0 < len(name) <= MAX_NAME_CHARS or to_the_letter(mask(name)) != name or "{" in name or "}" in name:
            problem = "its name has characters that a question cannot have, or is too long"
        elif name in found:
            problem = "another one has the same name"
        elif len(arguments) > MAX_ARGUMENTS or len(own_names) < len(arguments) or "" in own_names:
            problem = "it has arguments that cannot be written or told apart, or too many"
        else:
            about = each.get("description") or each.get("title") or ("" if is_prompt else each.get("name")) or ""
            found[name] = McpText(
                name=name,
                description=" ".join(make_readable(str(about), MAX_ABOUT_CHARS, mask).split()),
                is_prompt=is_prompt,
                arguments=own_names,
                needs=tuple(_keyword(argument["name"]) for argument in arguments if argument.get("required")),
            )
            continue
        problems.append(left_out(what.removesuffix("s"), name, problem, mask))
    return found, problems


def prompt_arguments(prompt: McpText, server: str, given: Mapping[str, Any]) -> dict[str, str]:
    """Return arguments for a prompt as its server calls them. Raises PianoError for one that is missing or wrong."""
    about = f"the prompt {prompt.name!r} of the MCP server {server!r}"
    for name, value in given.items():
        if name not in prompt.arguments:
            raise NotFoundError.among(f"argument of {about}", name, prompt.arguments)
        if not isinstance(value, str | int | float):
            raise PianoError(f"{about} takes texts and numbers, and {name} is neither")
    if missing := [name for name in prompt.needs if name not in given]:
        raise PianoError(f"{about} needs {' and '.join(missing)}, as in {prompt.placeholder(server)}")
    return {prompt.arguments[name]: str(value) for name, value in given.items()}


def prompt_text(given: Mapping[str, Any]) -> str:
    """Return the messages of a prompt as one text; of several it says whose each is. Raises PianoError without any."""
    messages = [(each.get("role"), part_text(each.get("content") or {})) for each in given.get("messages") or []]
    texts = [text if len(messages) == 1 else f"{role}: {text}" for role, text in messages if text]
    if not texts:
        raise PianoError("it has no text")
    return "\n\n".join(texts)


def _keyword(name: str) -> str:
    """Return the name of an argument as Python writes it, "" if it cannot."""
    word = unicodedata.normalize("NFKC", re.sub(r"\W", "_", name))
    return (f"{word}_" if keyword.iskeyword(word) else word) if word.isidentifier() else ""
