"""The cells of the notebook as text: their sources and outputs.

IPython knows the cells that ran in this kernel, in the order in which they ran. The notebook itself, with the cells
that did not run and all outputs, is known to the front end alone; an open chat panel passes it on.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.text.carriage_returns import as_on_terminal
from piano_jupyter.text.truncation import truncated

MAX_SOURCE_CHARS = 6_000
MAX_OUTPUT_CHARS = 3_000  # of all outputs of a cell
MAX_SHOWN_CHARS = 24_000  # of all cells that are shown in full
MAX_LISTED = 100
MAX_LINE_CHARS = 100  # of a cell in a list
ANSI = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")
RANGE = re.compile(r"(-?\d{1,9})(?:\s*-\s*(\d{1,9}))?")
#: What IPython calls outputs, and what a notebook file calls them.
GIVE_A_NUMBER = "give the number of a cell, such as cell[3], or cell[-1] for the last one"
STREAMS = {"out_stream": "stdout", "err_stream": "stderr"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell: its number, its source, and its outputs as in a notebook file."""

    number: int  #: its place in the notebook, or the number of its run
    source: str
    outputs: Sequence[Mapping[str, Any]] = ()
    kind: str = "code"
    run: int | None = None  #: the number in In[ ], if it ran

    @property
    def name(self) -> str:
        """How it is named to a model."""
        ran = f"In[{self.run}]" if self.run else "not run" if self.kind == "code" else self.kind
        return ran if self.run == self.number else f"cell {self.number}, {ran}"


def executed_cells(shell: Any) -> list[Cell]:
    """Return the cells that ran in this kernel, a running one included. IPython keeps no figures of them."""
    history = shell.history_manager
    outputs, errors = getattr(history, "outputs", {}), getattr(history, "exceptions", {})
    return [
        Cell(
            number,
            source,
            [*map(_as_in_a_file, outputs.get(number, ())), *_error_output(errors.get(number))],
            run=number,
        )
        for number, source in enumerate(history.input_hist_raw)
        if number
    ]


def notebook_cells(cells: Sequence[Mapping[str, Any]]) -> list[Cell]:
    """Return the cells that a front end has sent, in the form of a notebook file."""
    return [
        Cell(place, str(each["source"]), each.get("outputs", ()), str(each["cell_type"]), each.get("execution_count"))
        for place, each in enumerate(cells, 1)
    ]


def cell_text(shell: Any, number: int, *, running: bool) -> str:
    """Return the source of the cell In[number]; -1 is the last one. With `running`, the newest cell does not count.

    Raises NotFoundError if there is no such cell.
    """
    cells = executed_cells(shell)
    return chosen(cells[:-1] if running else cells, str(number))[0].source


class NumberedSources:
    """The sources of the cells that have run, by their number or from the last one: what `{{cell[-1]}}` stands for."""

    def __init__(self, shell: Any, *, running: bool) -> None:
        self._shell, self._running = shell, running

    def __getitem__(self, number: Any) -> str:
        """Return the source of a cell. Raises PianoError if there is none of that number."""
        if type(number) is not int:
            raise PianoError(GIVE_A_NUMBER)
        return cell_text(self._shell, number, running=self._running)

    def __repr__(self) -> str:
        raise PianoError(GIVE_A_NUMBER)


def chosen(cells: Sequence[Cell], numbers: str) -> list[Cell]:
    """Return the cells with these numbers, for example "3", "-1" (the last) or "2-5, 8". Raises PianoError."""
    found: dict[int, Cell] = {}
    by_number = {each.number: each for each in cells}
    for part in filter(None, map(str.strip, numbers.split(","))):
        match = RANGE.fullmatch(part)
        if match is None:
            raise PianoError(f"numbers are written like 3, -1 (the last cell) or 2-5, not {truncated(part, 60)!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        if first < 0:
            first = last = cells[first].number if -first <= len(cells) else first
        these = [number for number in by_number if first <= number <= last]
        if not these:
            raise NotFoundError.among("cell with the number", part, [str(number) for number in by_number][-20:])
        found |= {number: by_number[number] for number in these}
    return list(found.values())


def shown_cells(cells: Sequence[Cell], numbers: str, text: str) -> str:
    """Return cells in full, those with these numbers or with a text in them; without both, a line for each cell.

    The result is bounded, and says what it leaves out. Raises PianoError if no cell fits.
    """
    if not cells:
        return "there are no cells yet"
    found = chosen(cells, numbers) if numbers.strip() else list(cells)
    if text:
        found = [each for each in found if text.casefold() in f"{each.source}\n{_outputs(each)}".casefold()]
        if not found:
            raise NotFoundError(f"no cell has {truncated(text, 60)!r} in its source or outputs")
    if not (numbers.strip() or text):
        lines = [_line(each) for each in found[-MAX_LISTED:]]
        return "\n".join([*_left_out(len(found) - len(lines), "before these"), *lines])
    parts = list(_within(map(_in_full, found), MAX_SHOWN_CHARS))
    return "\n\n".join([*parts, *_left_out(len(found) - len(parts), "that fit; ask for fewer")])


def _left_out(count: int, which: str) -> list[str]:
    return [f"… and {count:,} more {which}"] if count else []


def _within(texts: Iterator[str], max_chars: int) -> Iterator[str]:
    """Yield texts, at least one, while they are not longer than `max_chars` together."""
    for at, each in enumerate(texts):
        max_chars -= len(each)
        if at and max_chars < 0:
            return
        yield each


def _in_full(cell: Cell) -> str:
    source = truncated(cell.source.rstrip(), MAX_SOURCE_CHARS, "\n… and {left:,} more characters")
    outputs = truncated(_outputs(cell), MAX_OUTPUT_CHARS, "\n… and {left:,} more characters")
    return "\n".join([f"--- {cell.name}", source, *(["--- its output", outputs] if outputs else [])])


def _line(cell: Cell) -> str:
    first = next((line for line in cell.source.splitlines() if line.strip()), "(empty)")
    errors = [f" → {each.get('ename')}" for each in cell.outputs if each.get("output_type") == "error"]
    return f"{cell.name}: {truncated(first.strip(), MAX_LINE_CHARS)}{''.join(errors[-1:])}"


def _outputs(cell: Cell) -> str:
    return "\n".join(filter(None, map(_output_text, cell.outputs)))


def _output_text(output: Mapping[str, Any]) -> str:
    """Return an output as text; of one that has no text, a note."""
    if output.get("output_type") == "error":
        return _plain(f"{output.get('ename')}: {output.get('evalue')}")
    if "text" in output:
        return as_on_terminal(_plain(output["text"]))
    data = output.get("data") or {}
    pictures = [kind for kind in data if str(kind).startswith("image/")]
    text = _plain(data.get("text/plain", ""))
    if pictures:
        return f"[a figure: {pictures[0]}] {text}".rstrip()
    return text or (f"[{', '.join(map(str, data))}, which has no text]" if data else "")


def _plain(text: Any) -> str:
    """Return a text, which may be in pieces, without colours."""
    joined = text if isinstance(text, str) else "".join(map(str, text))
    return ANSI.sub("", joined).rstrip()


def _as_in_a_file(output: Any) -> Mapping[str, Any]:
    """Return an output of IPython's history in the form of a notebook file."""
    kind = output.output_type
    if kind in STREAMS:
        return {"output_type": "stream", "name": STREAMS[kind], "text": output.bundle["stream"]}
    return {"output_type": kind, "data": output.bundle}


def _error_output(error: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    return [] if error is None else [{"output_type": "error", "ename": error["ename"], "evalue": error["evalue"]}]
