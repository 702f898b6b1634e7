"""What of the notebook a question can name with `{{…}}`, for the list that the panel shows while one writes."""

from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from piano_jupyter.jupyter.context.cells import executed_cells
from piano_jupyter.jupyter.context.last_error import FailedCell
from piano_jupyter.jupyter.kernel_tools.bounded_repr import bounded
from piano_jupyter.jupyter.kernel_tools.description import is_code, size_of
from piano_jupyter.text.truncation import truncated
from piano_jupyter.variables.variable_access import is_environment, shows_environment, type_name

MAX_VARIABLES = 300
MAX_CELLS = 30
MAX_PREVIEW_CHARS = 80


def offered_names(shell: Any, variables: Mapping[str, Any], failed: FailedCell | None) -> list[dict[str, str]]:
    """Return the last error, the user's variables and the last cells, each with what is inserted for it."""
    return [*_last_error(failed), *_variables(variables), *_cells(shell)]


def _last_error(failed: FailedCell | None) -> Iterator[dict[str, str]]:
    if failed is not None:
        about = _one_line(f"{type(failed.error).__name__} in {failed.name}")
        yield {"kind": "error", "name": "error", "about": about, "inserts": "{{error}}"}


def _variables(variables: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    data = [(name, value) for name, value in variables.items() if not name.startswith("_") and _is_data(value)]
    for name, value in data[-MAX_VARIABLES:][::-1]:  # the newest first
        yield {"kind": "variable", "name": name, "about": _about(value), "inserts": f"{{{{{name}}}}}"}


def _cells(shell: Any) -> Iterator[dict[str, str]]:
    for cell in executed_cells(shell)[-MAX_CELLS:][::-1]:
        about, inserts = _one_line(cell.source), f"{{{{cell[{cell.number}]}}}}"
        yield {"kind": "cell", "name": f"In[{cell.number}]", "about": about, "inserts": inserts}


def _is_data(value: Any) -> bool:
    return not (issubclass(type(value), ModuleType) or is_code(value))


def _about(value: Any) -> str:
    """Return the type, the size and the beginning of a value, on one line."""
    try:
        kind, size = type_name(value), size_of(value)
        preview = "" if is_environment(value) or "×" in size else _one_line(bounded(value, MAX_PREVIEW_CHARS))
    except Exception as error:  # noqa: BLE001  The user's object may raise anything.
        return f"{type(value).__name__}, which cannot be read: {type(error).__name__}"
    return " · ".join(filter(None, [kind, size, "" if shows_environment(preview) else preview]))


def _one_line(text: str) -> str:
    return truncated(" ".join(text.split()), MAX_PREVIEW_CHARS)
