"""Lists and quotations that are nested too deeply: shown as they are written, where the parser would drop them."""

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock

MAX_NESTING = 20  # a list in a list is two deeper


def add_deep_nesting(parser: MarkdownIt) -> None:
    """Add the rule for what is nested too deeply to a Markdown parser, which has to go a little deeper itself."""
    parser.block.ruler.before("table", "deep_nesting", _block)


def _block(state: StateBlock, line: int, last: int, silent: bool) -> bool:  # noqa: FBT001  The parser calls it so.
    if state.level < MAX_NESTING:
        return False
    if not silent:
        token = state.push("code_block", "code", 0)
        token.content, token.map = state.getLines(line, last, state.blkIndent, keepLastLF=True), [line, last]
        state.line = last
    return True
