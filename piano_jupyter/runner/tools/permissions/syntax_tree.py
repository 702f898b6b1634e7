"""Finds the simple commands in a line of shell, from its syntax tree, and the nested texts to parse separately.

tree-sitter knows the grammar but is lenient: it accepts what bash rejects, and guesses where bash is exact. If bash may
read a line differently, the line counts as unclear.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from piano_jupyter.runner.tools.permissions.launchers import RUN_VARIABLE

if TYPE_CHECKING:
    from tree_sitter import Language, Node

COMMANDS = {"command", "declaration_command", "unset_command"}
REDIRECTIONS = {"file_redirect", "heredoc_redirect", "herestring_redirect"}
SUBSTITUTIONS = {"command_substitution", "process_substitution"}
QUOTED = {"string", "raw_string", "translated_string", "ansi_c_string"}
EXPANDED = SUBSTITUTIONS | {"expansion", "simple_expansion", "arithmetic_expansion", "ansi_c_string"}
LITERALS = {"concatenation", "number", "word", "brace_expression"} | EXPANDED | QUOTED
NO_PATHS = {"case_item"}  #: what is in these nodes is no path
FOLDER_COMMANDS = {"cd", "pushd"}
BODY = {"heredoc_body", "heredoc_end"}
BLOCKS = SUBSTITUTIONS | {  #: nodes that may contain a comment
    *("array", "case_item", "case_statement", "compound_statement", "do_group", "elif_clause", "else_clause"),
    *("for_statement", "if_statement", "list", "pipeline", "program", "subshell", "while_statement"),
}
ARITHMETIC = {"arithmetic_expansion", "c_style_for_statement"}
ON_ONE_LINE = COMMANDS | {"file_redirect", "herestring_redirect", "variable_assignments"}
WITHOUT_BLANKS = {"concatenation", "expansion", "simple_expansion", "variable_assignment"}

#: Characters that are ordinary letters to bash; and the `-` of `python - <<END`, which the tree would lose.
FOREIGN = re.compile(r"[^\t\n -~]|(?<=[ \t])-(?=[ \t]*<<)")
LINE_GAP = re.compile(r"(?:[ \t]|\\\n)*")
GAP = re.compile(r"(?:[ \t\n]|\\\n)*")
BACKTICKS = re.compile(r"\$?`((?:[^`\\]|\\.)*)`", re.DOTALL)
PATTERN = re.compile(r"""(?:[^'"`{}$\\\n;]|\\[^'"`{}$\n]|\$(?![({\['"`]))*""")  #: nothing in it is quoted or expanded
EXACT = {  #: how bash delimits these nodes; tree-sitter makes some of them longer
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
#: A text in which nothing is expanded and every quote is closed, so its words are literal.
TEXT = re.compile(
    r"""(?:[^'"\\$`<>{#]|<(?![<(])|>(?!\()|(?<![^\s;&|()<>])#.*(?![^\n])|(?<=[^\s;&|()<>])#|\\.|'[^']*'|"[^"\\$`]*")*"""
)
TOKEN = re.compile(r"""(?<![^\s;&|()<>])#.*|(?:'[^']*'|"[^"]*"|\\.|[^\s;&|()<>{}`'"\\])+|[\n;&|()<>{}`]""")
PIECE = re.compile(r"""'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.)|[*?\[{$]""", re.DOTALL)
ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class ShellWord(NamedTuple):
    """A word of a command, without its quotes."""

    text: str
    is_known: bool  #: False if something in it is expanded when it runs
    is_glob: bool = False  #: it is not known only because it may stand for names of files


Command = list[ShellWord]
ASSIGNMENT = ShellWord("=", is_known=True)  #: in place of a program's name, before what a variable is set to
UNKNOWN = ShellWord("", is_known=False)


class NestedText(NamedTuple):
    """A text in a line that has to be parsed separately."""

    text: str
    depth: int  #: of substitutions around it
    is_shell: bool  #: False if it may not be shell, like a here-document


@dataclass(slots=True)
class ParsedLine:
    """The commands and nested texts in a line."""

    commands: list[Command] = field(default_factory=list)
    texts: list[NestedText] = field(default_factory=list)
    words: set[ShellWord] = field(default_factory=set)  #: all that may be a path, also of redirections and assignments
    folders: set[ShellWord] = field(default_factory=set)  #: where `cd` goes
    depth: int = 0  #: of the deepest substitution
    is_unclear: bool = False  #: whether bash may read it differently


class _Context(NamedTuple):
    node: "Node"
    depth: int
    parent: str = ""  #: its type
    is_quoted: bool = False  #: in double quotes or a here-document
    is_arithmetic: bool = False


def parse_line(line: str, depth: int) -> ParsedLine:
    """Parse a line that is itself within `depth` substitutions."""
    from tree_sitter import Parser  # noqa: PLC0415  Loading the extension must stay fast.

    line = line.replace("<>", "< ")  # a redirection that the grammar does not know; positions stay the same
    root = Parser(_bash()).parse(FOREIGN.sub(",", line).encode()).root_node  # a byte is a character
    parsed = ParsedLine(depth=depth, is_unclear=root.has_error)
    span = (root.children[0].start_byte, root.children[-1].end_byte) if root.children else (0, 0)
    parsed.is_unclear |= GAP.fullmatch(line[: span[0]] + line[span[1] :]) is None
    queue = [_Context(root, depth)]
    while queue:  # a tree can be deeper than Python's stack
        context = queue.pop()
        parsed.depth = max(parsed.depth, context.depth)
        parsed.is_unclear |= _is_unclear(context, line)
        if _add_node(context, line, parsed):
            queue += _child_contexts(context)
    return parsed


def guess_commands(text: str) -> list[Command]:
    """Return what a text that may not be shell could run: a command on each line and in each bracket."""
    text = text.replace("\\\n", "")
    commands: list[Command] = [[] if TEXT.fullmatch(text) else [UNKNOWN], []]
    for token in TOKEN.findall(text):
        if token in {*"\n;&|(){}`"}:
            commands.append([])
        elif token in {*"<>"}:  # at the start, or after a number, the command's name follows
            commands[-1] = [UNKNOWN] if not commands[-1] or commands[-1][-1].text.isdigit() else commands[-1]
        elif commands[-1] or not re.match(r"#|\w+\+?=", token):
            commands[-1].append(ShellWord(PIECE.sub(_unquoted, token), not re.search(r"[*?\[$]", token)))
    return [each for each in commands if each]


@cache
def _bash() -> "Language":
    import tree_sitter_bash  # noqa: PLC0415
    from tree_sitter import Language  # noqa: PLC0415

    return Language(tree_sitter_bash.language())


def _add_node(context: _Context, line: str, parsed: ParsedLine) -> bool:
    """Add what a node contains to `parsed`; return whether its children have to be visited."""
    node, depth = context.node, context.depth + 1
    first = node.children[0] if node.children else node
    if node.type in LITERALS and context.parent not in LITERALS | NO_PATHS:
        _add_word(context, line, parsed)
    if node.type in COMMANDS:
        parsed.commands.append([_word(each, line) for each in _words(node)])
    elif node.type == "variable_assignment":
        word = ShellWord(_word(node, line).text, is_known=True)  # what is expanded in it is seen elsewhere
        if context.parent == "command" or RUN_VARIABLE.match(word.text):
            parsed.commands.append([ASSIGNMENT, word])
    elif node.type == "redirected_statement" and (
        more := [word for each in node.children for word in _words_after(each)]
    ):
        parsed.is_unclear |= first.type not in COMMANDS | REDIRECTIONS
        parsed.commands.append([_word(each, line) for each in [*_words(first), *more]])
    elif node.type == "heredoc_redirect":
        text = _heredoc(node, line)
        parsed.is_unclear |= text is None
        parsed.texts.append(NestedText(text or "", depth, is_shell=False))
    elif (
        node.type == "test_command" and first.type == "["
    ):  # an ordinary command, although the tree parses it differently
        parsed.texts.append(NestedText("\\" + _source(node, line), depth, is_shell=True))
        return False
    elif node.type == "test_command":
        parsed.commands.append([ShellWord("[[", is_known=True), *(_word(each, line) for each in _literals(node))])
    elif node.type == "command_substitution" and (ticks := BACKTICKS.match(_source(node, line))):
        escaped = r'\\([`$\\"])' if context.is_quoted else r"\\([`$\\])"
        parsed.texts.append(NestedText(re.sub(escaped, r"\1", ticks[1]), depth, is_shell=True))
        return False
    return True


def _add_word(context: _Context, line: str, parsed: ParsedLine) -> None:
    """Add a word that may be a path; the name of a command is one if it has a slash."""
    word, command = _word(context.node, line), context.node.parent
    if context.parent == "command" and command is not None and _source(command, line).split()[0] in FOLDER_COMMANDS:
        parsed.folders.add(word)
    elif context.parent != "command_name" or "/" in word.text or not word.is_known:
        parsed.words.add(word)


def _child_contexts(context: _Context) -> Iterator[_Context]:
    node, depth, _, is_quoted, is_arithmetic = context
    if node.type in SUBSTITUTIONS | {"do_group", "compound_statement"}:
        depth += node.type in SUBSTITUTIONS
        is_quoted = is_arithmetic = False
    is_arithmetic |= node.type in ARITHMETIC or any(each.type == "((" for each in node.children[:2])
    is_quoted |= node.type in {"string", "heredoc_body"}
    for child in node.children:
        yield _Context(child, depth, node.type, is_quoted, is_arithmetic)


def _is_unclear(context: _Context, line: str) -> bool:
    """Return whether bash may read a node differently."""
    node, kind, source = context.node, context.node.type, _source(context.node, line)
    if kind == "comment":
        no_word = line[node.start_byte - 1 : node.start_byte] in {"", *" \t\n;&|()"}
        return context.is_arithmetic or context.parent not in BLOCKS or not no_word
    if kind == "regex" and context.parent != "expansion":
        source = re.sub(r"(?<!\$)[{}]", "", source)  # a count in a regular expression
    if kind in EXACT and (not source.startswith("$(")) and EXACT[kind].fullmatch(source) is None:
        return True
    if (kind in QUOTED and context.is_arithmetic) or (kind == "array" and context.parent == "expansion"):
        return True
    if kind == "expansion" and context.is_quoted and "'" in source:
        return True
    return kind != "heredoc_body" and any(_is_odd_gap(kind, *two, line) for two in pairwise(node.children))


def _is_odd_gap(kind: str, before: "Node", after: "Node", line: str) -> bool:
    """Return whether the gap between two nodes contains more than blanks, or bash may not separate them there."""
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
    """Return the text of a here-document, None if bash may end it elsewhere."""
    found = HEREDOC.match(line, node.start_byte)
    if found is None or found.end() != node.end_byte or found["end"] in found["text"].replace("\\\n", "").split("\n"):
        return None
    if any(found.end("sign") < each.end_byte > found.start("text") for each in node.children if each.type not in BODY):
        return None  # a word over several lines before the text
    return found["text"]


def _words(node: "Node") -> Iterator["Node"]:
    """Yield the words of a simple command, without assignments before its name; nothing for other nodes."""
    is_named = False
    for child in node.children if node.type in COMMANDS else ():
        if child.type in REDIRECTIONS:
            yield from _words_after(child)
        elif is_named or child.type != "variable_assignment":
            is_named = True
            yield child


def _words_after(redirection: "Node") -> Iterator["Node"]:
    """Yield the words that a redirection adds to a command: those that follow it, and the text of a here-string."""
    literals = [each for each in redirection.children if each.type in LITERALS]
    if redirection.type == "heredoc_redirect":
        yield from literals
    elif redirection.type == "file_redirect":
        yield from literals[1:]
    elif redirection.type == "herestring_redirect":
        yield from literals  # its text may be commands


def _literals(node: "Node", kinds: set[str] = LITERALS) -> Iterator["Node"]:
    """Yield the outermost nodes of these kinds in a node, from left to right."""
    nodes = [node]
    while nodes:
        if (each := nodes.pop()).type in kinds:
            yield each
        else:
            nodes += reversed(each.children)


def _word(node: "Node", line: str) -> ShellWord:
    literal_parts, at = [], node.start_byte
    for expanded in _literals(node, EXPANDED):
        literal_parts.append(line[at : expanded.start_byte])
        at = expanded.end_byte
    written = "".join([*literal_parts, line[at : node.end_byte]])
    text = PIECE.sub(_unquoted, written)
    special = {found[0] for found in PIECE.finditer(written)} & {*"*?[{$"}
    is_known = (not literal_parts and not special) or text in {"{", "[", "[["}
    return ShellWord(text, is_known, is_glob=not is_known and not literal_parts and special <= {*"*?["})


def _unquoted(piece: re.Match[str]) -> str:
    single, double, escaped = piece.groups()
    if double is not None:
        return ESCAPED.sub(r"\1", double)
    return next((each for each in (single, escaped) if each is not None), piece[0]).strip("\n" if escaped else "")


def _source(node: "Node", line: str) -> str:
    return line[node.start_byte : node.end_byte]
