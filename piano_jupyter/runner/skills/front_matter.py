"""Reads the front matter of a skill and checks it against the Agent Skills standard, field by field. Pure.

https://agentskills.io/specification. An error that makes a skill unusable is a SkillError, any other a warning. All
values stay text: YAML's dates, numbers and objects are not interpreted.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from piano_jupyter.errors import SkillError

MAX_FRONT_MATTER_CHARS = 16_000
MAX_NAME_CHARS = 64
MAX_DESCRIPTION_CHARS = 1_024
MAX_COMPATIBILITY_CHARS = 500
MAX_BRACKETS = 100  #: PyYAML takes half a minute for a few thousand
FIELDS = ("name", "description", "license", "compatibility", "metadata", "allowed-tools")
WINDOWS_RESERVED = re.compile(r"con|prn|aux|nul|com\d|lpt\d")  # not allowed as folder names on Windows
UNQUOTED_COLON = re.compile(r"^(\w[\w-]*):[ \t]+([^\s'\"|>\[{&*!#].*:.*)$", re.MULTILINE)


def split(text: str) -> tuple[str, str]:
    """Return front matter and body. Raises SkillError."""
    if "\0" in text:
        raise SkillError("it is not a text file; write it in Markdown")
    first, *rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if first.rstrip() != "---":
        return "", "\n".join([first, *rest]).strip()
    end = next((at for at, line in enumerate(rest) if line.rstrip() == "---"), None)
    if end is None:
        raise SkillError("its front matter has no end; add a line --- after it")
    return "\n".join(rest[:end]), "\n".join(rest[end + 1 :]).strip()


def parse(front: str) -> dict[str, Any]:
    """Parse front matter as a mapping; a colon in an unquoted value is text. Raises SkillError."""
    import yaml  # noqa: PLC0415  Needed only where there is front matter.

    if len(front) > MAX_FRONT_MATTER_CHARS:
        raise SkillError(
            f"its front matter is longer than {MAX_FRONT_MATTER_CHARS:,} characters; move the text below it"
        )
    if front.count("[") + front.count("{") > MAX_BRACKETS:
        raise SkillError("its front matter has too many brackets; write it as `name: value` lines")
    try:
        try:
            metadata = _load_yaml(front)
        except yaml.YAMLError:
            metadata = _load_yaml(
                UNQUOTED_COLON.sub(lambda line: f"{line[1]}: '{line[2].replace(chr(39), chr(39) * 2)}'", front)
            )
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 2})" if mark else ""
        raise SkillError(f"its front matter is not YAML{where}; write it as `name: value` lines") from error
    if not isinstance(metadata, dict):
        raise SkillError("its front matter must be `name: value` lines")
    return metadata


def check_name(name: Any, folder: str | None) -> str:
    """Return a skill's name. Raises SkillError if it is invalid or differs from its folder's."""
    if not isinstance(name, str):
        raise SkillError("its name must be text")
    plain = unicodedata.normalize("NFKC", name.strip())
    written = re.fullmatch(r"[^\W_]+(?:-[^\W_]+)*", plain) and len(plain) <= MAX_NAME_CHARS
    if not written or plain != plain.lower() or WINDOWS_RESERVED.fullmatch(plain):
        raise SkillError(
            f"{name!r} is not a valid name; use at most {MAX_NAME_CHARS} lowercase letters, digits and single hyphens"
        )
    if folder is not None and plain != unicodedata.normalize("NFKC", folder):
        raise SkillError(f"it is named {plain!r} but its folder {folder!r}; make them the same")
    return plain


def check_description(description: Any) -> str:
    """Return a skill's description as one line, "" if it has none. Raises SkillError."""
    if description is None:
        return ""
    if not isinstance(description, str):
        raise SkillError("its description must be text; put it in quotes")
    return " ".join(description.split())


def warnings(metadata: Mapping[str, Any], *, in_folder: bool) -> Iterator[str]:
    """Yield one sentence for each violation of the standard that does not make the skill unusable.

    A flat file is not part of the standard and may have any fields.
    """
    description, compatibility = metadata.get("description"), metadata.get("compatibility")
    if isinstance(description, str) and len(description) > MAX_DESCRIPTION_CHARS:
        yield f"its description has {len(description):,} characters, only the first {MAX_DESCRIPTION_CHARS:,} are used"
    is_short = isinstance(compatibility, str) and len(compatibility) <= MAX_COMPATIBILITY_CHARS
    if compatibility is not None and not is_short:
        yield f"its compatibility must be text of at most {MAX_COMPATIBILITY_CHARS} characters"
    if not isinstance(metadata.get("license", ""), str):
        yield "its license must be text: a name, or the name of the license file"
    more = metadata.get("metadata", {})
    if not isinstance(more, dict) or not all(isinstance(value, str) for value in more.values()):
        yield "its metadata must be `name: value` lines, each value a text"
    if "allowed-tools" in metadata:
        yield "allowed-tools is only shown; it grants nothing"
    if in_folder and (unknown := sorted(set(map(str, metadata)) - set(FIELDS))):
        yield f"the standard has no field {', '.join(map(repr, unknown))}; move your own fields into metadata"


def _load_yaml(front: str) -> Any:
    import yaml  # noqa: PLC0415

    for token in yaml.scan(front):
        if isinstance(token, yaml.AnchorToken | yaml.AliasToken | yaml.TagToken):
            raise SkillError("its front matter has YAML anchors or tags, which are not supported; write the values out")
    node = yaml.compose(front, yaml.BaseLoader)
    if node is None:
        return {}
    _check_no_duplicates(node)
    return yaml.constructor.BaseConstructor().construct_document(node)


def _check_no_duplicates(node: Any) -> None:
    """Raise SkillError for a duplicate field."""
    if not isinstance(node.value, list):
        return
    names = [pair[0].value for pair in node.value if isinstance(pair, tuple)]
    for name in names:
        if isinstance(name, str) and names.count(name) > 1:
            raise SkillError(f"its front matter has {name!r} twice; keep one")
    for each in node.value:
        _check_no_duplicates(each[1] if isinstance(each, tuple) else each)
