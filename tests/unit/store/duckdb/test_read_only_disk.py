"""A disk that turns read-only under a running store is named at once, and nothing that was acknowledged is lost."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torn_writes
from database_runs import commit, open_and_check, read_all
from store_processes import opened, outcome

from piano_jupyter.errors import StoreError
from piano_jupyter.store.duckdb.database import Database

READ_ONLY = "cannot be written any more (Read-only file system): make it writable and try again"
SCRIPT = """
import json
from pathlib import Path
sign, told = Path(path).with_name("read-only"), []

async def attempt():
    try:
        await store.add_message(message())
    except StoreError as error:
        return [str(error), store.problem]
    return ["stored", store.problem]

async def main():
    await store.open()
    told.append(await attempt())
    sign.touch()
    told.extend([await attempt(), await attempt()])
    told.append((await store.counts()).messages)
    if WRITABLE_AGAIN:
        sign.unlink()
        told.append(await attempt())
    await store.close()

asyncio.run(main())
print(json.dumps(told))
"""


@pytest.mark.skipif(not torn_writes.HAS_COMPILER, reason="there is no C compiler to make writes fail with")
@pytest.mark.parametrize("writable_again", [True, False], ids=["writable again", "closed while it is read-only"])
async def test_a_disk_that_turns_read_only_is_named_and_once_it_is_writable_the_store_goes_on(tmp_path, writable_again):
    path = tmp_path / "run.duckdb"
    launcher = (f"LD_PRELOAD={torn_writes.library(tmp_path)}", f"WRITES_READ_ONLY={tmp_path / 'read-only'}")
    told = json.loads(outcome(f"WRITABLE_AGAIN = {writable_again}\n{SCRIPT}", path, "env", *launcher))

    first, refused, again, count, *last = told
    assert first == ["stored", ""]
    assert refused == again
    assert count == 1
    assert READ_ONLY in refused[0]
    assert refused[1] == refused[0]
    assert last == ([["stored", ""]] if writable_again else [])
    async with opened(path) as store:
        assert (await store.counts()).messages == 1 + len(last)


@pytest.fixture
def disk(tmp_path):
    """Mount a small ext4 disk, which turns read-only at an error; return its folder, its device and its image."""
    image, folder = tmp_path / "image", tmp_path / "disk"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(32 << 20)
    for command in (["mkfs.ext4", "-q", image], ["mount", "-o", "loop,errors=remount-ro", image, folder]):
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=30)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip(f"{command[0]} is not there or not permitted: no disk can be made read-only")
    yield folder, image
    subprocess.run(["umount", folder], check=True, timeout=30)


def test_a_real_disk_that_turned_read_only_has_everything_that_was_acknowledged(disk):
    folder, image = disk
    source = subprocess.run(["findmnt", "-no", "SOURCE", folder], check=True, capture_output=True, text=True).stdout
    trigger = Path("/sys/fs/ext4", Path(source.strip()).name, "trigger_fs_error")
    if not os.access(trigger, os.W_OK):
        pytest.skip(f"{trigger} cannot be written: the disk cannot be made read-only while it is in use")
    changes = []
    database = Database(str(folder / "run.duckdb"), changed=lambda *change: changes.append(change))
    for number in (1, 2, 3):
        commit(database, number, 500)
    trigger.write_text("1")

    with pytest.raises(StoreError, match="Read-only file system"):
        commit(database, 4, 500)
    database.rollback()
    assert len(read_all(database)) == 3
    ((_, problem),) = changes
    assert READ_ONLY in problem
    database.close()
    subprocess.run(["umount", folder], check=True, timeout=30)
    subprocess.run(["mount", "-o", "loop", image, folder], check=True, timeout=30)
    assert open_and_check(folder / "run.duckdb", 3, 4) == []
