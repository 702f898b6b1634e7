"""The simple commands of a line of shell, from its syntax tree, and the texts in it that are read by themselves.

tree-sitter knows the grammar but is lenient: it accepts what bash refuses, and guesses where bash is exact. Where bash
may read a line in another way, the line counts as unclear.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tree_sitter import Language, Node

COMMANDS = {"command", "declaration_command", "unset_command"}
REDIRECTIONS = {"file_redirect", "heredoc_redirect", "herestring_redirect"}
SUBSTITUTIONS = {"command_substitution", "process_substitution"}
QUOTED = {"string", "raw_string", "translated_string", "ansi_c_string"}
EXPANDED = SUBSTITUTIONS | {"expansion", "simple_expansion", "arithmetic_expansion", "ansi_c_string"}
LITERALS = {"concatenation", "number", "word", "brace_expression"} | EXPANDED | QUOTED
BODY = {"heredoc_body", "heredoc_end"}
BLOCKS = SUBSTITUTIONS | {  #: in which a comment may stand
    *("array", "case_item", "case_statement", "compound_statement", "do_group", "elif_clause", "else_clause"),
    *("for_statement", "if_statement", "list", "pipeline", "program", "subshell", "while_statement"),
}
ARITHMETIC = {"arithmetic_expansion", "c_style_for_statement"}
ON_ONE_LINE = COMMANDS | {"file_redirect", "herestring_redirect", "variable_assignments"}
WITHOUT_BLANKS = {"concatenation", "expansion", "simple_expansion", "variable_assignment"}

#: To bash a letter like others; and the `-` of `python - <<END`, which the tree would lose.
FOREIGN = re.compile(r"[^\t\n -~]|(?<=[ \t])-(?=[ \t]*<<)")
LINE_GAP = re.compile(r"(?:[ \t]|\\\n)*")
GAP = re.compile(r"(?:[ \t\n]|\\\n)*")
BACKTICKS = re.compile(r"\$?`((?:[^`\\]|\\.)*)`", re.DOTALL)
PATTERN = re.compile(r"""(?:[^'"`{}$\\\n;]|\\[^'"`{}$\n]|\$(?![({\['"`]))*""")  #: with nothing quoted or expanded in it
EXACT = {  #: what these are to bash; tree-sitter lets some of them go on for longer
    "ansi_c_string": re.compile(r"\$'(?:[^'\\]|\\.)*'", re.DOTALL),
    "command_substitution": BACKTICKS,
    "extglob_pattern": PATTERN,
    "regex": PATTERN,
    "word": re.compile(r"""(?:[^'"`$\\]|\\.)*""", re.DOTALL),
}
HEREDOC = re.compile(
    r"""(?P<sign>\d*<<(?P<tabs>-)?)[ \t]*(?:\\|(?P<quote>['"])|)(?P<end>[\w.-]+)(?(quote)(?P=quote))(?![^\s;&|<>()])"""
    r"""[^\n]*\n(?P<text>(?:.*\n)*?)(?<!\\\n)(?(tabs)\t*)(?P=end)$""",
    re.MULTILINE,
)
#: A text in which nothing is expanded and every quote is closed: whatever it is, its words are as they stand.
TEXT = re.compile(
    r"""(?:[^'"\\$`<>{#]|<(?![<(])|>(?!\()|(?<![^\s;&|()<>])#.*|(?<=[^\s;&|()<>])#|\\.|'[^']*'|"[^"\\$`]*")*+"""
)
TOKEN = re.compile(r"""(?<![^\s;&|()<>])#.*|(?:'[^']*'|"[^"]*"|\\.|[^\s;&|()<>{}`'"\\])+|[\n;&|()<>{}`]""")
PIECE = re.compile(r"""'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.)|[*?\[{$]""", re.DOTALL)
ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class ShellWord(NamedTuple):
    """A word of a command, its quotes taken off."""

    text: str
    is_known: bool  #: whether it is so when it runs: not where something in it is expanded


Command = list[ShellWord]
UNKNOWN = ShellWord("", is_known=False)


class NestedText(NamedTuple):
    """A text in a line that is read by itself."""

    text: str
    depth: int  #: of substitutions around it
    is_shell: bool  #: False: it may be none, like a here-document


@dataclass(slots=True)
class ParsedLine:
    """What was found in a line."""

    commands: list[Command] = field(default_factory=list)
    texts: list[NestedText] = field(default_factory=list)
    depth: int = 0  #: of substitutions, at most
    is_unclear: bool = False  #: whether bash may read it in another way


class _Context(NamedTuple):
    node: "Node"
    depth: int
    parent: str = ""  #: its type
    is_quoted: bool = False  #: in double quotes or a here-document
    is_arithmetic: bool = False


def read(line: str, depth: int) -> ParsedLine:
    """Return what is in a line that is in so many substitutions itself."""
    from tree_sitter import Parser  # noqa: PLC0415  loading the extension must not take the time

    line = line.replace("<>", "< ")  # a redirection that the grammar does not know; all else stays in its place
    root = Parser(_bash()).parse(FOREIGN.sub(",", line).encode()).root_node  # a byte is a character
    reading = ParsedLine(depth=depth, is_unclear=root.has_error)
    covered = (root.children[0].start_byte, root.children[-1].end_byte) if root.children else (0, 0)
    reading.is_unclear |= GAP.fullmatch(line[: covered[0]] + line[covered[1] :]) is None
    places = [_Context(root, depth)]
    while places:  # a tree can be deeper than Python's stack
        place = places.pop()
        reading.depth = max(reading.depth, place.depth)
        reading.is_unclear |= _is_unclear(place, line)
        if _is_read_in_the_tree(place, line, reading):
            places += _below(place)
    return reading


def guessed(text: str) -> list[Command]:
    """Return what a text that is hardly shell would run: a command on each line and in each bracket."""
    text = text.replace("\\\n", "")
    commands: list[Command] = [[] if TEXT.fullmatch(text) else [UNKNOWN], []]
    for token in TOKEN.findall(text):
        if token in {*"\n;&|(){}`"}:
            commands.append([])
        elif token in {*"<>"}:  # at the beginning, or behind a number, the name of the command follows
            commands[-1] = [UNKNOWN] if not commands[-1] or commands[-1][-1].text.isdigit() else commands[-1]
        elif commands[-1] or not re.match(r"#|\w+\+?=", token):
            commands[-1].append(ShellWord(PIECE.sub(_unquoted, token), not re.search(r"[*?\[$]", token)))
    return [each for each in commands if each]


@cache
def _bash() -> "Language":
    import tree_sitter_bash  # noqa: PLC0415
    from tree_sitter import Language  # noqa: PLC0415

    return Language(tree_sitter_bash.language())


def _is_read_in_the_tree(place: _Context, line: str, reading: ParsedLine) -> bool:
    """Note what a node holds; return whether what is below it is to be looked at."""
    node, depth = place.node, place.depth + 1
    first = node.children[0] if node.children else node
    if node.type in COMMANDS:
        reading.commands.append([_word(each, line) for each in _words(node)])
    elif node.type == "redirected_statement" and (more := [word for each in node.children for word in _behind(each)]):
        reading.is_unclear |= first.type not in COMMANDS | REDIRECTIONS
        reading.commands.append([_word(each, line) for each in [*_words(first), *more]])
    elif node.type == "heredoc_redirect":
        text = _heredoc(node, line)
        reading.is_unclear |= text is None
        reading.texts.append(NestedText(text or "", depth, is_shell=False))
    elif node.type == "test_command" and first.type == "[":  # a command like others, whatever the tree makes of it
        reading.texts.append(NestedText("\\" + _said(node, line), depth, is_shell=True))
        return False
    elif node.type == "test_command":
        reading.commands.append([ShellWord("[[", is_known=True), *(_word(each, line) for each in _literals(node))])
    elif node.type == "command_substitution" and (ticks := BACKTICKS.match(_said(node, line))):
        escaped = r'\\([`$\\"])' if place.is_quoted else r"\\([`$\\])"
        reading.texts.append(NestedText(re.sub(escaped, r"\1", ticks[1]), depth, is_shell=True))
        return False
    return True


def _below(place: _Context) -> Iterator[_Context]:
    node, depth, _, is_quoted, is_arithmetic = place
    if node.type in SUBSTITUTIONS | {"do_group", "compound_statement"}:
        depth += node.type in SUBSTITUTIONS
        is_quoted = is_arithmetic = False
    is_arithmetic |= node.type in ARITHMETIC or any(each.type == "((" for each in node.children[:2])
    is_quoted |= node.type in {"string", "heredoc_body"}
    for child in node.children:
        yield _Context(child, depth, node.type, is_quoted, is_arithmetic)


def _is_unclear(place: _Context, line: str) -> bool:
    """Return whether bash may read a node in another way."""
    node, kind, said = place.node, place.node.type, _said(place.node, line)
    if kind == "comment":
        no_word = line[node.start_byte - 1 : node.start_byte] in {"", *" \t\n;&|()"}
        return place.is_arithmetic or place.parent not in BLOCKS or not no_word
    if kind == "regex" and place.parent != "expansion":
        said = re.sub(r"(?<!\$)[{}]", "", said)  # a count in a regular expression
    if kind in EXACT and (not said.startswith("$(")) and EXACT[kind].fullmatch(said) is None:
        return True
    if (kind in QUOTED and place.is_arithmetic) or (kind == "array" and place.parent == "expansion"):
        return True
    if kind == "expansion" and place.is_quoted and "'" in said:
        return True
    return kind != "heredoc_body" and any(_is_odd_gap(kind, *two, line) for two in pairwise(node.children))


def _is_odd_gap(kind: str, before: "Node", after: "Node", line: str) -> bool:
    """Return whether what the tree leaves out between two nodes is more than blanks, or their being apart a guess."""
    gap = line[before.end_byte : after.start_byte]
    if kind in WITHOUT_BLANKS:
        return gap != ""
    if (LINE_GAP if kind in ON_ONE_LINE else GAP).fullmatch(gap) is None:
        return True
    if gap.replace("\\\n", ""):
        return False
    if kind in ON_ONE_LINE and after.type in LITERALS | {"variable_assignment"}:
        return before.is_named
    return (
        gap != ""
        and line[before.end_byte - 1] not in ";&|("
        and line[after.start_byte : after.start_byte + 1] not in ";&|)"
    )


def _heredoc(node: "Node", line: str) -> str | None:
    """Return the text of a here-document; None where bash may end it elsewhere."""
    found = HEREDOC.match(line, node.start_byte)
    if found is None or found.end() != node.end_byte or found["end"] in found["text"].replace("\\\n", "").split("\n"):
        return None
    if any(found.end("sign") < each.end_byte > found.start("text") for each in node.children if each.type not in BODY):
        return None  # a word over several lines before the text
    return found["text"]


def _words(node: "Node") -> Iterator["Node"]:
    """Yield the words of a simple command, without the assignments before its name; of what is none, nothing."""
    is_named = False
    for child in node.children if node.type in COMMANDS else ():
        if child.type in REDIRECTIONS:
            yield from _behind(child)
        elif is_named or child.type != "variable_assignment":
            is_named = True
            yield child


def _behind(redirection: "Node") -> Iterator["Node"]:
    """Yield the words of the command that stand behind a redirection."""
    literals = [each for each in redirection.children if each.type in LITERALS]
    if redirection.type == "heredoc_redirect":
        yield from literals
    elif redirection.type == "file_redirect":
        yield from literals[1:]


def _literals(node: "Node", kinds: set[str] = LITERALS) -> Iterator["Node"]:
    """Yield what is of these kinds in a node, but not what is in that, from left to right."""
    nodes = [node]
    while nodes:
        if (each := nodes.pop()).type in kinds:
            yield each
        else:
            nodes += reversed(each.children)


def _word(node: "Node", line: str) -> ShellWord:
    said, at = [], node.start_byte
    for expanded in _literals(node, EXPANDED):
        said.append(line[at : expanded.start_byte])
        at = expanded.end_byte
    written = "".join([*said, line[at : node.end_byte]])
    text = PIECE.sub(_unquoted, written)
    is_known = not said and not any(found[0] in {*"*?[{$"} for found in PIECE.finditer(written))
    return ShellWord(text, is_known or text in {"{", "[", "[["})


def _unquoted(piece: re.Match[str]) -> str:
    single, double, escaped = piece.groups()
    if double is not None:
        return ESCAPED.sub(r"\1", double)
    return next((each for each in (single, escaped) if each is not None), piece[0]).strip("\n" if escaped else "")


def _said(node: "Node", line: str) -> str:
    return line[node.start_byte : node.end_byte]
