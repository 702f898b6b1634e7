"""Figures and images of Python as PNG: their size is decided before they are drawn or read."""

import io

import numpy as np
import pytest
from pictures import png, png_that_claims

from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.attachments.given import as_attachment
from piano_jupyter.attachments.image_header import MAX_PIXELS
from piano_jupyter.errors import PianoError

Image = pytest.importorskip("PIL.Image")
Figure = pytest.importorskip("matplotlib.figure").Figure


def plotted(**options):
    figure = Figure(**options)
    figure.subplots().plot([1, 2, 3])
    return figure


def read(attachment):
    return Image.open(io.BytesIO(attachment.content))


@pytest.mark.parametrize(
    "options", [{"figsize": (1e5, 1e5)}, {"figsize": (3_000, 500), "dpi": 600}, {"dpi": 1e9}], ids=str
)
def test_m6_a_huge_figure_is_drawn_small_and_stays_as_it_is(options):
    figure = plotted(**options)
    before = (figure.dpi, *figure.get_size_inches())

    found = as_attachment(figure)

    assert 1_000 < max(found.width, found.height) <= 1_568
    assert (figure.dpi, *figure.get_size_inches()) == before


def test_m6_a_text_far_outside_of_a_figure_makes_it_no_larger():
    figure = plotted()
    figure.axes[0].text(1e6, 1e6, "far away")

    found = as_attachment(figure)

    assert max(found.width, found.height) <= 1_568


def test_a_figure_is_as_large_as_a_cell_shows_it_also_once_it_is_closed():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    figure, axes = pyplot.subplots()
    axes.plot([1, 2, 3])
    shown = io.BytesIO()
    figure.savefig(shown, format="png", bbox_inches="tight")
    pyplot.close(figure)

    assert as_attachment(figure).content == as_attachment(axes).content == as_attachment(axes.lines[0]).content
    assert read(as_attachment(figure)).size == Image.open(shown).size


def test_axes_in_an_array_stand_for_their_figure():
    figure = Figure()
    axes = figure.subplots(2, 2)

    assert as_attachment(axes).content == as_attachment(axes[0, 1]).content == as_attachment(figure).content
    assert as_attachment(np.array([None, {}], dtype=object)) is None


def test_a_figure_that_cannot_be_drawn_is_a_sentence():
    figure = plotted()
    figure.bbox_inches.p1 = (float("nan"), 2)

    with pytest.raises(PianoError, match="Figure cannot be shown as an image: "):
        as_attachment(figure)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16", "I;16B"]
)
def test_images_of_each_mode_become_png(mode):
    found = as_attachment(Image.new(mode, (4, 3)))

    assert (found.mime, found.width, found.height) == ("image/png", 4, 3)
    assert read(found).mode == ("RGBA" if "A" in mode.removeprefix("L").removeprefix("P") or mode == "LAB" else "RGB")


def test_an_image_of_sixteen_bits_keeps_its_shades():
    ramp = Image.fromarray(np.linspace(0, 60_000, 4).astype("uint16").reshape(2, 2))

    assert read(as_attachment(ramp)).convert("L").tobytes() == bytes([0, 85, 170, 255])


@pytest.mark.parametrize(
    ("size", "sent"), [((1, 1), (1, 1)), ((1, 100_000), (1, 1_568)), ((4_000, 1_000), (1_568, 392))]
)
def test_an_image_of_pillow_is_scaled_down(size, sent):
    assert read(as_attachment(Image.new("RGB", size))).size == sent


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(20, 10), (2_000, 1_000)])
def test_a_photo_that_says_how_to_turn_it_is_sent_upright(kind, size):
    photo, written = Image.new("RGB", size, "blue"), io.BytesIO()
    photo.paste("red", (0, 0, size[0] // 2, size[1]))  # the left half, which is the upper one of the turned photo
    exif = photo.getexif()
    exif[0x0112] = 6
    photo.save(written, kind, exif=exif)

    seen = read(as_attachment(written.getvalue()))

    assert seen.width < seen.height
    red, _, blue = seen.convert("RGB").getpixel((1, 1))
    assert red - blue > 150
    assert seen.getexif().get(0x0112) is None


def test_a_photo_that_is_upright_is_sent_as_it_is():
    written, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 1
    Image.new("RGB", (20, 10)).save(written, "JPEG", exif=exif)

    assert as_attachment(written.getvalue()).content == written.getvalue()


def test_m3_a_frame_that_is_larger_than_its_image_claims_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    written = io.BytesIO()
    Image.new("P", (4, 3)).save(written, "GIF")
    claimed = bytearray(written.getvalue())
    frame = claimed.index(b"\x2c\0\0\0\0\x04\0\x03\0")
    claimed[frame + 5 : frame + 9] = (60_000).to_bytes(2, "little") * 2

    with pytest.raises(PianoError, match="60,000 × 60,000 pixels, which is too large"):
        as_attachment(bytes(claimed))


@pytest.mark.parametrize("values", [[0.0, np.inf], [-np.inf, 0.0], [np.nan, np.nan]])
def test_an_image_of_numbers_that_are_not_finite_is_a_sentence(values):
    with pytest.raises(PianoError, match="not finite"):
        as_attachment(Image.fromarray(np.array([values], "float32")))


def test_a_broken_image_is_a_sentence_whatever_its_decoder_makes_of_it():
    written = io.BytesIO()
    Image.new("RGB", (30, 20)).save(written, "WEBP")

    for end in (30, 40, len(written.getvalue()) - 3):
        with pytest.raises(PianoError, match="cannot be read: "):
            as_attachment(written.getvalue()[:end])


def test_what_shows_itself_as_png_among_others_is_an_image():
    bundle = {"text/plain": "<ggplot>", "image/png": png(4, 3)}
    kind = type("Plot", (), {"_repr_mimebundle_": lambda _, **__: (bundle, {})})
    page = type("Chart", (), {"_repr_mimebundle_": lambda _, **__: {"application/json": {}}})
    widget = type("Widget", (kind,), {"__module__": "ipywidgets.widgets"})

    assert as_attachment(kind()).content == png(4, 3)
    assert as_attachment(page()) is as_attachment(widget()) is None


def test_of_an_animation_the_shown_frame_is_sent():
    written = io.BytesIO()
    Image.new("RGB", (2, 2), "red").save(
        written, "GIF", save_all=True, append_images=[Image.new("RGB", (2, 2), "blue")]
    )
    animation = Image.open(written)
    animation.seek(1)

    assert read(as_attachment(animation)).getpixel((0, 0)) == (0, 0, 255)
    assert read(as_attachment(written.getvalue())).getpixel((0, 0)) == (255, 0, 0)


def test_an_image_whose_file_is_closed_is_a_sentence_and_no_text(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        pass

    with pytest.raises(PianoError, match="PngImageFile cannot be shown as an image: "):
        as_attachment(image)


def test_m3_an_image_of_pillow_with_billions_of_pixels_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    bomb = Image.open(io.BytesIO(png_that_claims(60_000, 60_000)))

    with pytest.raises(PianoError, match="60,000 × 60,000 pixels, which is too large"):
        as_attachment(bomb)


def test_m7_what_an_object_says_of_itself_is_checked():
    class Lying(Image.Image):
        """Says that it is small."""

        width = height = 1

    lying = Lying()
    lying.__setstate__([{}, "L", (9_000, 5_000), None, bytes(9_000 * 5_000)])
    pretender = type("Pretender", (), {"__class__": Figure, "savefig": lambda *_, **__: 1 / 0})()
    namesake = type("Figure", (), {"__module__": "matplotlib.figure", "savefig": lambda *_, **__: 1 / 0})()
    forged = Attachment(sha256="0" * 64, mime="image/png", size=1, content=b"<svg onload='run()'>")

    assert MAX_PIXELS < 9_000 * 5_000
    assert as_attachment(lying).width <= 1_568
    assert as_attachment(pretender) is None
    with pytest.raises(PianoError, match="Figure cannot be shown as an image"):
        as_attachment(namesake)
    with pytest.raises(PianoError, match="is no PNG, JPEG, GIF or WebP image"):
        as_attachment(forged)


def test_m7_an_attachment_is_sent_with_the_hash_of_its_bytes():
    claimed = Attachment(sha256="0" * 64, mime="image/gif", size=1, name="plot.png", content=png(4, 3))

    assert as_attachment(claimed) == Attachment.of(png(4, 3), "image/png", name="plot.png", width=4, height=3)
    with pytest.raises(PianoError, match=r"the content of plot\.png, 1 bytes was not read"):
        as_attachment(claimed.without_content())


@pytest.mark.parametrize("shown", ["no base64!", 5, b"text"])
def test_an_object_that_shows_no_image_as_png_is_a_sentence(shown):
    kind = type("Plot", (), {"_repr_png_": lambda _: shown})

    with pytest.raises(PianoError, match=r"base64|is no PNG"):
        as_attachment(kind())


def test_what_is_no_image_stays_what_it_is():
    shows_nothing = type("Plot", (), {"_repr_png_": lambda _: None})()

    assert [as_attachment(each) for each in (shows_nothing, np.zeros((4, 4, 3), "uint8"), "a.png", b"x")] == [None] * 4


def test_an_image_of_ipython_is_sent_as_it_is():
    shown = pytest.importorskip("IPython.display").Image(png(4, 3))

    assert as_attachment(shown).content == png(4, 3)
