"""Names that `{{…}}` knows besides the user's variables, such as `In[3]`. A variable of the user's goes before them.

Another module adds a name with `SPECIAL_NAMES["error"] = read`, where `read` takes the IPython shell and returns the
value, or a `SpecialFunction` for a name that ends in "(" and is called, as in `{{image("plot.png")}}`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from typing import Any

from piano_jupyter.errors import PianoError

SPECIAL_NAMES: dict[str, Callable[[Any], Any]] = {
    "In": lambda shell: NumberedCells("In", shell.user_ns["In"]),
    "Out": lambda shell: NumberedCells("Out", shell.user_ns["Out"]),
    "_": lambda shell: _last_result(shell.user_ns),
}


class NumberedCells:
    """The sources or the results of the cells that have run, by their number."""

    def __init__(self, name: str, cells: Any) -> None:
        self._name, self._cells = name, cells

    def __getitem__(self, number: Any) -> Any:
        """Return one of them. Raises PianoError if there is none of that number."""
        with suppress(LookupError, TypeError):
            found = self._cells[number]
            if self._name != "In" or found != "":  # In[0] is none
                return found
        what = "cell" if self._name == "In" else "result of a cell"
        raise PianoError(f"there is no {what} with the number {number!r}")

    def __repr__(self) -> str:
        raise PianoError(f"give the number of a cell: {self._name}[3]")


def _last_result(names: Mapping[str, Any]) -> Any:
    """Return the last result. Raises PianoError if no cell has had one."""
    if not names["Out"] and isinstance(last := names.get("_", ""), str) and not last:
        raise PianoError("no cell has had a result, so {{_}} stands for nothing")
    return names["_"]


class QuestionVariables(Mapping[str, Any]):
    """What a question can name: variables, the first mapping that has one counts, then the special names."""

    def __init__(self, shell: Any, *variables: Mapping[str, Any]) -> None:
        self._shell, self._variables = shell, variables

    def __getitem__(self, name: str) -> Any:
        for each in self._variables:
            if name in each:
                return each[name]
        return SPECIAL_NAMES[name](self._shell)

    def __contains__(self, name: object) -> bool:
        return name in SPECIAL_NAMES or any(name in each for each in self._variables)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(chain(*self._variables, SPECIAL_NAMES)))

    def __len__(self) -> int:
        return sum(1 for _ in self)
