"""What a thread has read is remembered within bounds."""

from uuid import UUID

import pytest

from piano_jupyter.errors import ToolError
from piano_jupyter.runner.tools.files.read_state import MAX_FILES, MAX_KEPT_BYTES, MAX_KEPT_FILE_BYTES, ReadState

THREAD = UUID(int=1)


def said(seen, file, data=b"new"):
    with pytest.raises(ToolError) as caught:
        seen.check_known(THREAD, file, data, "f")
    return str(caught.value).split("\n")


def test_the_least_recently_used_files_are_forgotten_first():
    seen = ReadState()
    seen.record(THREAD, "kept", b"x")
    for number in range(MAX_FILES - 1):
        seen.record(THREAD, number, b"x")
    seen.check_known(THREAD, "kept", b"x", "f")

    seen.record(THREAD, "one more", b"x")

    seen.check_known(THREAD, "kept", b"x", "f")
    assert said(seen, 0) == ["read_first: read 'f' before you edit it"]


def test_only_the_hash_is_kept_of_content_beyond_the_limit():
    seen = ReadState()
    data = b"x\n" * (MAX_KEPT_FILE_BYTES // 2)
    for number in range(MAX_KEPT_BYTES // MAX_KEPT_FILE_BYTES + 1):
        seen.record(THREAD, number, data)
    seen.record(THREAD, "again", data)
    seen.record(THREAD, "again", b"old")

    assert len(said(seen, 0)) == 1
    seen.check_known(THREAD, 0, data, "f")
    assert said(seen, "again")[1:] == ["@@ line 1 @@", "-old", "+new"]
    assert said(seen, MAX_KEPT_BYTES // MAX_KEPT_FILE_BYTES)[1:] != []


def test_one_thread_does_not_know_what_another_has_read():
    seen = ReadState()
    seen.record(UUID(int=2), "f", b"x")

    assert said(seen, "f") == ["read_first: read 'f' before you edit it"]
    seen.check_known(None, "f", b"x", "f")
