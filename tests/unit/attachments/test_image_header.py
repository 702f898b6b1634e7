"""What the first bytes of an image say, and what is refused before anything is decoded."""

import io

import pytest
from pictures import png, png_that_claims

from piano_jupyter.attachments.image_header import check_image, image_header
from piano_jupyter.errors import PianoError


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_size_is_that_which_pillow_reads(kind, mode):
    image = pytest.importorskip("PIL.Image").new(mode, (301, 77), 99)
    for options in [{}, {"progressive": True}] if kind == "jpeg" else [{}, {"lossless": True}]:
        written = io.BytesIO()
        image.save(written, kind, **options)

        assert image_header(written.getvalue()) == (f"image/{kind}", 301, 77)


@pytest.mark.parametrize("cut", range(0, 40, 3))
def test_a_cut_or_broken_header_is_no_image(cut):
    whole = png(300, 200)

    assert image_header(whole[:cut]) in {None, ("image/png", 300, 200)}
    assert image_header(whole[:cut] + b"\xff" * 3) in {None, ("image/png", 300, 200)} or cut < 24
    assert image_header(b"\xff\xd8" + b"\xff" * cut) is None
    assert image_header(b"GIF8" + b"\0" * cut) is None
    assert image_header(b"RIFF____WEBPVP8X" + b"\0" * (cut // 4)) is None


@pytest.mark.parametrize("size", [(60_000, 60_000), (2**31 - 1, 1), (1, 2**32 - 1)])
def test_m3_an_image_that_claims_billions_of_pixels_is_refused_unread(size):
    with pytest.raises(PianoError, match=r"plot has .* pixels, which is too large"):
        check_image(png_that_claims(*size), "plot")


def test_what_is_no_image_is_refused_by_its_name():
    with pytest.raises(PianoError, match=r"notes\.txt is no PNG, JPEG, GIF or WebP image"):
        check_image(b"hello", "notes.txt")
    assert check_image(png(3, 2)) == ("image/png", 3, 2)
