"""Python expressions written by others. Pure; nothing is evaluated."""

import ast

MAX_DEPTH = 100  #: levels of an expression


def parse_expression(text: str) -> ast.expr:
    """Parse an expression. Raises ValueError if it is none, or nested so deeply that code which walks it may fail."""
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise ValueError(error.msg) from None
    except (RecursionError, MemoryError):  # Python's parser raises MemoryError for what is too complex
        raise ValueError("it is nested too deeply") from None
    level: list[ast.AST] = [node]
    for _ in range(MAX_DEPTH):
        level = [child for each in level for child in ast.iter_child_nodes(each)]
        if not level:
            return node
    raise ValueError("it is nested too deeply")
