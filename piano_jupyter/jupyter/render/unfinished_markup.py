"""The end of a Markdown text that is being written, completed for the moment: no `**` flashes up before its partner.

What is completed is a guess; the finished block is rendered from what was really written.
"""

import re

FENCE = re.compile(r"^[ >]*(?:`{3,}|~{3,})", re.MULTILINE)
HALF_MARKUP = re.compile(r"(?:(?: ?(?<!\\)[*_~`|])+ ?|\n {0,3}[-=]+ ?)\Z")  # what follows says what it is
HALF_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\Z")
MARKUP = re.compile(r"\\.|(?P<code>`+)|(?P<style>\*{1,3}|_{1,3}|~~)", re.DOTALL)
TABLE_HEAD = re.compile(r"(?:\A|(?<=[^|\n]\n))(\|[^\n]*[^|\n\s][^\n]*)(?:\n[|:\- ]*)?\Z")
MAX_PARAGRAPH_CHARS = 4_000


def completed(text: str) -> str:
    """Return a text with its last paragraph completed: open emphasis and code closed, half a link without its target.

    The first lines of a table become a table. Code blocks stay as they are.
    """
    written = text.removesuffix("\n")
    paragraph = _last_paragraph(written)
    if not paragraph:
        return text
    before = written[: len(written) - len(paragraph)]
    end = HALF_MARKUP.sub("", paragraph) if written == text else paragraph
    if head := TABLE_HEAD.search(end):
        columns = max(1, head[1].rstrip().rstrip("|").count("|"))
        return f"{before}{end[: head.end(1)]}{_closers(head[1])}\n{'|---' * columns}|"
    end = HALF_LINK.sub(r"\1", end)
    return f"{before}{end.rstrip()}{_closers(end)}"


def _last_paragraph(text: str) -> str:
    """Return the last lines of a text that have no blank one between them; "" in a code block."""
    if len(FENCE.findall(text)) % 2:
        return ""
    paragraph = text[-MAX_PARAGRAPH_CHARS:]
    start = max(match.end() for match in re.finditer(r"\A|\n[ >\t]*(?:\n|\Z)", paragraph))
    fences = list(FENCE.finditer(paragraph, start))
    if fences:
        start = paragraph.find("\n", fences[-1].end()) + 1 or len(paragraph)
    return paragraph[start:]


def _closers(text: str) -> str:
    """Return what closes the markup that is open at the end of a text."""
    opened: list[str] = []
    code = ""
    for match in MARKUP.finditer(text):
        sign = match[0]
        if match["code"]:
            code = "" if sign == code else code or sign
        elif match["style"] and not code:
            before, after = text[match.start() - 1 : match.start()] or " ", text[match.end() : match.end() + 1] or " "
            in_word = sign[0] == "_" and before.isalnum() and after.isalnum()
            if sign in opened:
                if not before.isspace() and not in_word:
                    del opened[opened.index(sign) :]
            elif not after.isspace() and not (sign[0] == "_" and before.isalnum()):
                opened.append(sign)
    return code + "".join(reversed(opened))
