"""What was recovered of a damaged history is said in the cell that opens it."""

import re
import signal
from pathlib import Path

from store_processes import end_store_process


def test_j5_the_cell_that_opens_a_damaged_history_says_what_was_recovered_and_what_was_not(kernel_of, tmp_path):
    first = kernel_of().load()
    first.run("%%piano\nhello")
    first.run("%%piano\nhello again")
    first.end(kill=True)
    end_store_process(tmp_path, signal.SIGKILL)
    path = tmp_path / ".piano" / "piano.duckdb"
    log = Path(f"{path}.wal").read_bytes()
    at = [found.end() for found in re.finditer(rb"\x64\x00\x64\xff\xff", log)][-4] + 100  # behind a commit
    Path(f"{path}.wal").write_bytes(log[:at] + bytes(64) + log[at + 64 :])

    second = kernel_of().load()
    told = " ".join(second.run("%piano threads").stream.split())

    assert re.search(r"was damaged: recovered 1 agent, 1 thread, \d messages? and \d jobs?; not recovered: up to", told)
    assert "the damaged file is kept as" in told
    assert len(list(path.parent.glob("piano.duckdb.damaged-*"))) == 3
    assert "was damaged" not in second.run("%piano threads").stream
