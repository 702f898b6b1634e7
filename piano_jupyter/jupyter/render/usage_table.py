"""What answers cost, as a table narrow enough for a cell."""

from functools import partial
from typing import Any

from piano_jupyter.jupyter.render.tables import RecordTable
from piano_jupyter.records import Rows

COLUMN_HEADS = {
    "prompt_tokens": "prompt",
    "cached_tokens": "cached tokens",
    "completion_tokens": "written",
    "tokens_per_second": "tok/s",
    "first_token_s": "first token (s)",
    "load_s": "load (s)",
}


class UsageStatistics(RecordTable[tuple[Any, ...]]):
    """Statistics (`Piano.stats`) as a table with short column heads and without empty columns."""

    def __init__(self, rows: Rows) -> None:
        known = [at for at in range(len(rows.columns)) if any(row[at] is not None for row in rows)]
        columns = {COLUMN_HEADS.get(rows.columns[at], rows.columns[at]): partial(_cell, at) for at in known}
        super().__init__(rows, "no answers yet", **columns)
        self.rows = rows

    def df(self) -> Any:
        """Return a pandas DataFrame, with all columns under their full names."""
        return self.rows.df()


def _cell(at: int, row: tuple[Any, ...]) -> str:
    value = row[at]
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}" if isinstance(value, float) else str(value)
