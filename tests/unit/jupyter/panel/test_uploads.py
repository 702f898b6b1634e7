import base64

import pytest
from pictures import png

from piano_jupyter.attachments.image_header import MAX_IMAGE_BYTES
from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.panel.uploads import MAX_PART_CHARS, Uploads


def in_parts(content, size):
    return [base64.b64encode(content[at : at + size]).decode() for at in range(0, len(content), size)]


def test_an_image_that_comes_in_parts_is_whole():
    uploads, image = Uploads(), png(30, 20)
    for number, part in enumerate(in_parts(image, 7)):
        uploads.add_part("k", "../plots/plot.png", part, number=number)

    made = uploads.finish("k")
    uploads.keep("k", made)

    assert (made.name, made.content, made.label) == ("plot.png", image, "plot.png, 30 × 20")
    assert uploads.attachments(["k"]) == [made]


@pytest.mark.parametrize(
    ("part", "number", "words"),
    [
        ("aGk=", 1, "a part of notes.txt was lost on its way; attach it again"),
        ("A" * (MAX_PART_CHARS + 4), 0, "a part of notes.txt was lost"),
        ("!!", 0, "a part of notes.txt arrived damaged; attach it again"),
    ],
)
def test_p2_a_part_that_is_wrong_is_refused_and_nothing_of_its_file_is_kept(part, number, words):
    uploads = Uploads()

    with pytest.raises(PianoError, match=words):
        uploads.add_part("k", "notes.txt", part, number=number)
    with pytest.raises(PianoError, match="a file was lost on its way"):
        uploads.finish("k")


def test_p2_a_file_that_is_too_large_is_refused_with_a_sentence():
    uploads = Uploads()
    part = "A" * MAX_PART_CHARS
    fitting = MAX_IMAGE_BYTES // (MAX_PART_CHARS * 3 // 4)
    for number in range(fitting):
        uploads.add_part("k", "huge.bin", part, number=number)

    with pytest.raises(PianoError, match=r"huge\.bin is too large: at most 20 MB are taken"):
        uploads.add_part("k", "huge.bin", part, number=fitting)


def test_what_is_no_text_and_no_image_is_refused():
    uploads = Uploads()
    uploads.add_part("k", "data.bin", "AAEC", number=0)

    with pytest.raises(PianoError, match=r"data\.bin is neither an image"):
        uploads.finish("k")


def test_a_file_that_the_kernel_no_longer_has_is_named_when_it_is_sent():
    with pytest.raises(PianoError, match="attach it again"):
        Uploads().attachments(["gone"])
