"""The front matter of a skill, as the Agent Skills standard has it: read, and checked field by field. Pure.

https://agentskills.io/specification. A mistake that leaves a skill unusable is a SkillError, any other a warning. All
values are text: YAML's own ideas of dates, numbers and objects are left alone.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from piano_jupyter.errors import SkillError

LONGEST = 16_000  #: characters of front matter
LONGEST_NAME = 64  #: characters
LONGEST_DESCRIPTION = 1_024  #: characters
LONGEST_COMPATIBILITY = 500  #: characters
MOST_BRACKETS = 100  #: PyYAML takes half a minute for a few thousand
FIELDS = ("name", "description", "license", "compatibility", "metadata", "allowed-tools")
RESERVED = re.compile(r"con|prn|aux|nul|com\d|lpt\d")  # no folder of Windows can have these names
UNQUOTED = re.compile(r"^(\w[\w-]*):[ \t]+([^\s'\"|>\[{&*!#].*:.*)$", re.MULTILINE)


def split(text: str) -> tuple[str, str]:
    """Return front matter and body. Raises SkillError."""
    if "\0" in text:
        raise SkillError("it is not a text; write it in Markdown")
    first, *rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if first.rstrip() != "---":
        return "", "\n".join([first, *rest]).strip()
    end = next((at for at, line in enumerate(rest) if line.rstrip() == "---"), None)
    if end is None:
        raise SkillError("its front matter has no end; put a line --- after it")
    return "\n".join(rest[:end]), "\n".join(rest[end + 1 :]).strip()


def parsed(front: str) -> dict[str, Any]:
    """Return front matter as a mapping; a colon in a plain value is taken as text. Raises SkillError."""
    import yaml  # noqa: PLC0415  Needed only where there is front matter.

    if len(front) > LONGEST:
        raise SkillError(f"its front matter is longer than {LONGEST:,} characters; move the text below it")
    if front.count("[") + front.count("{") > MOST_BRACKETS:
        raise SkillError("its front matter has too many brackets; write it as `name: value` lines")
    try:
        try:
            found = _loaded(front)
        except yaml.YAMLError:
            found = _loaded(UNQUOTED.sub(lambda line: f"{line[1]}: '{line[2].replace(chr(39), chr(39) * 2)}'", front))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 2})" if mark else ""
        raise SkillError(f"its front matter is not YAML{where}; write it as `name: value` lines") from error
    if not isinstance(found, dict):
        raise SkillError("its front matter must be `name: value` lines")
    return found


def checked_name(name: Any, folder: str | None) -> str:
    """Return a skill's name. Raises SkillError for one that is none, or another than its folder's."""
    if not isinstance(name, str):
        raise SkillError("its name must be text")
    plain = unicodedata.normalize("NFKC", name.strip())
    written = re.fullmatch(r"[^\W_]+(?:-[^\W_]+)*", plain) and len(plain) <= LONGEST_NAME
    if not written or plain != plain.lower() or RESERVED.fullmatch(plain):
        raise SkillError(
            f"{name!r} is no name for a skill; use lowercase letters, digits and single hyphens, {LONGEST_NAME} at most"
        )
    if folder is not None and plain != unicodedata.normalize("NFKC", folder):
        raise SkillError(f"it is named {plain!r} but its folder {folder!r}; make them the same")
    return plain


def checked_description(description: Any) -> str:
    """Return a skill's description on one line, "" if it has none. Raises SkillError."""
    if description is None:
        return ""
    if not isinstance(description, str):
        raise SkillError("its description must be text; put it in quotes")
    return " ".join(description.split())


def warnings(metadata: Mapping[str, Any], *, in_folder: bool) -> Iterator[str]:
    """Yield what the standard has against front matter that can be used, a sentence each.

    A flat file is Piano's own, and may have fields of its own.
    """
    description, compatibility = metadata.get("description"), metadata.get("compatibility")
    if isinstance(description, str) and len(description) > LONGEST_DESCRIPTION:
        yield f"its description has {len(description):,} characters, only the first {LONGEST_DESCRIPTION:,} are used"
    is_short = isinstance(compatibility, str) and len(compatibility) <= LONGEST_COMPATIBILITY
    if compatibility is not None and not is_short:
        yield f"its compatibility must be a text of at most {LONGEST_COMPATIBILITY} characters"
    if not isinstance(metadata.get("license", ""), str):
        yield "its license must be a text: a name, or the file that has it"
    more = metadata.get("metadata", {})
    if not isinstance(more, dict) or not all(isinstance(value, str) for value in more.values()):
        yield "its metadata must be `name: value` lines, each value a text"
    if "allowed-tools" in metadata:
        yield "allowed-tools is shown only; it grants nothing"
    if in_folder and (unknown := sorted(set(map(str, metadata)) - set(FIELDS))):
        yield f"the standard knows no field {', '.join(map(repr, unknown))}; what is your own goes into metadata"


def _loaded(front: str) -> Any:
    import yaml  # noqa: PLC0415

    for token in yaml.scan(front):
        if isinstance(token, yaml.AnchorToken | yaml.AliasToken | yaml.TagToken):
            raise SkillError("its front matter has anchors or tags of YAML, which are not read; write them out")
    node = yaml.compose(front, yaml.BaseLoader)
    if node is None:
        return {}
    _check_once(node)
    return yaml.constructor.BaseConstructor().construct_document(node)


def _check_once(node: Any) -> None:
    """Raise SkillError for a name that is given twice."""
    if not isinstance(node.value, list):
        return
    names = [pair[0].value for pair in node.value if isinstance(pair, tuple)]
    for name in names:
        if isinstance(name, str) and names.count(name) > 1:
            raise SkillError(f"its front matter has {name!r} twice; keep one")
    for each in node.value:
        _check_once(each[1] if isinstance(each, tuple) else each)
