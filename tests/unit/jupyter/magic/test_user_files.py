"""Files that the user names."""

import unicodedata

import pytest

from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.magic.user_files import read_text, write_text


@pytest.mark.parametrize(("on_disk", "typed"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_a_name_whose_accents_are_written_in_another_way_is_the_same_file(tmp_path, on_disk, typed):
    (tmp_path / unicodedata.normalize(on_disk, "café.txt")).write_text("one")
    name = str(tmp_path / unicodedata.normalize(typed, "café.txt"))

    assert read_text(name, str(tmp_path)) == "one"
    with pytest.raises(PianoError, match="--force replaces it"):
        write_text(name, "two", str(tmp_path), force=False)
    write_text(name, "two", str(tmp_path), force=True)
    assert [each.read_text() for each in tmp_path.iterdir()] == ["two"]
