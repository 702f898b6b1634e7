"""Parse the text after `%piano`: options and mentions, then names or verbatim text. Pure."""

import ast
import keyword
import re
from collections.abc import Mapping

from piano_jupyter.errors import NotFoundError, PianoError

VALUE = r"""(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^\s"']\S*))"""
QUESTION_LINE = re.compile(r"^(\s*(?:[\w.\[\]'\", ]+=\s*)?)%piano\s+([\w@-].*\?)(\s*)$")
HIDDEN_MAGIC = re.compile(r"piano[ \t]+(?:([A-Za-z]\w*)\b|@[\w.-]+[,:]?[ \t]+\w)")


def split_words(line: str, known: Mapping[str, str]) -> tuple[dict[str, str], list[str], list[str]]:
    """Return options, handles and the other words; options may stand anywhere, quotes around words are removed."""
    options, handles, rest = split_options(line, known)
    words = []
    while rest:
        word = re.match(rf"{VALUE}(?:\s+|$)", rest)
        if word is None:
            raise PianoError(f"a quote is not closed: {rest}")
        words.append(_unquoted(word))
        more, also, rest = split_options(rest[word.end() :], known)
        for name, value in more.items():
            _set_option(options, name, value, known)
        handles += also
    return options, handles, words


def split_options(line: str, known: Mapping[str, str]) -> tuple[dict[str, str], list[str], str]:
    """Return options, handles (`@ada`) and the rest of the line verbatim.

    `known` names the value of each option, "" for a flag; an option whose value ends in "…" may be repeated, its values
    are joined by commas. Options and handles come first; `--` ends them. Values with spaces are quoted. Raises
    PianoError for an unknown option or a missing value.
    """
    options: dict[str, str] = {}
    handles: list[str] = []
    rest = line.lstrip()
    while word := re.match(r"(--?[A-Za-z][\w-]*)(?:=|\s+|$)|@([\w.-]+)[,:]?(?:\s+|$)|--(?:\s+|$)", rest):
        rest = rest[word.end() :]
        if word[2]:
            handles.append(word[2])
        elif not word[1]:
            break
        elif word[1] not in known:
            raise NotFoundError.among("option", word[1], known)
        elif known[word[1]]:
            value = re.match(rf"{VALUE}(?:\s+|$)", rest)
            if not value:
                raise PianoError(f"{word[1]} needs a value after it")
            _set_option(options, word[1], _unquoted(value), known)
            rest = rest[value.end() :]
        else:
            options[word[1]] = ""
    return options, handles, rest.rstrip()


def _set_option(options: dict[str, str], name: str, value: str, known: Mapping[str, str]) -> None:
    again = name in options and known[name].endswith("…")
    options[name] = f"{options[name]},{value}" if again else value


def keep_question_marks(lines: list[str]) -> list[str]:
    """Rewrite lines like `%piano ask why?` as an IPython input transformer: to IPython a final `?` asks for help."""
    if lines and lines[0].startswith("%%"):
        return lines
    return [QUESTION_LINE.sub(_as_call, line) for line in lines]


def _as_call(match: re.Match[str]) -> str:
    return f"{match[1]}get_ipython().run_line_magic('piano', {match[2]!r}){match[3]}"


def missing_percent(lines: list[str]) -> list[str]:
    """Explain a cell that begins with `piano ask …`, as an IPython input transformer, instead of a SyntaxError.

    IPython would take it for the magic, but the variable `piano` hides that.
    """
    at = next((number for number, line in enumerate(lines) if line.strip()), None)
    if at is None:
        return lines
    line = lines[at].strip()
    match = HIDDEN_MAGIC.match(line)
    if match is None or keyword.iskeyword(match[1] or "") or _is_python(line):
        return lines
    sentence = f"without %, `piano` means the Python variable; write %{line}"
    return [*lines[:at], f"raise __import__('piano_jupyter').PianoError({sentence!r})\n", *lines[at + 1 :]]


def _is_python(line: str) -> bool:
    try:
        ast.parse(line)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two if it is nested too deeply
        return False
    return True


def _unquoted(value: re.Match[str]) -> str:
    quoted = value[1] if value[1] is not None else value[2]
    return value[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
