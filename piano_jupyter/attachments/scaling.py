"""Makes images smaller where Pillow is installed. Without it they stay as they are, or are refused."""

import io
from collections.abc import Iterable
from contextlib import suppress
from math import isfinite
from typing import Any

from piano_jupyter.attachments.image_header import check_image, check_pixels
from piano_jupyter.errors import PianoError

SENT_AS_THEY_ARE = frozenset({"image/png", "image/jpeg"})  #: what every server reads
MAX_SIDE = 1_568  #: in pixels, of an image for a model: most models scale larger ones down themselves
MAX_SENT_BYTES = 4 * 2**20  #: of an image for a model
MAX_FIGURE_BYTES = 2 * 2**20  #: of a figure: the Jupyter server drops outputs of more than 3 MB
SIDES = (2_048, 1_568, 1_024, 640)  #: to which a figure of too many bytes is made smaller
MAX_METADATA_BYTES = 1 << 17  #: where the metadata of an image is, at its beginning
ORIENTATION, UPRIGHT = 0x0112, 1  #: the tag of EXIF, and its value for an image that is not to be turned
MODEL_SIDES = (MAX_SIDE, 1_024, 640)  #: the same of an image for a model


def for_model(content: bytes, name: str = "the image") -> bytes:
    """Return an image as a model is sent it: PNG or JPEG, scaled down to at most `MAX_SIDE` pixels a side.

    Raises PianoError for what is no image, is too large, or needs Pillow where that is not installed.
    """
    header = check_image(content, name)
    is_small = max(header.width, header.height) <= MAX_SIDE and len(content) <= MAX_SENT_BYTES
    if is_small and header.mime in SENT_AS_THEY_ARE and not _is_turned(content):
        return content
    scaled = _scaled(content, MODEL_SIDES, MAX_SENT_BYTES)
    if scaled is not None:
        return scaled
    if is_small:
        return content
    raise PianoError(
        f"{name} ({header.width:,} × {header.height:,} pixels, {len(content) / 2**20:.1f} MB) is too large to be sent: "
        f"pip install pillow, and it is made smaller; or make it smaller yourself"
    )


def for_showing(content: bytes, name: str = "the figure") -> bytes:
    """Return an image of at most `MAX_FIGURE_BYTES`. Raises PianoError, as `for_model` does."""
    check_image(content, name)
    if len(content) <= MAX_FIGURE_BYTES:
        return content
    if (scaled := _scaled(content, SIDES, MAX_FIGURE_BYTES)) is not None:
        return scaled
    raise PianoError(f"{name} has {len(content) / 2**20:.1f} MB, more than {MAX_FIGURE_BYTES / 2**20:.0f} MB")


def scaled_png(image: Any, sides: Iterable[int] = MODEL_SIDES, max_bytes: int = MAX_SENT_BYTES) -> bytes | None:
    """Return an image of Pillow as PNG of the first of these sizes that is small enough; None if none is."""
    image = _of_eight_bits(image)
    for side in sides:
        smaller = image.copy()
        smaller.thumbnail((side, side))
        written = io.BytesIO()
        smaller.save(written, "PNG")
        if len(written.getvalue()) <= max_bytes:
            return written.getvalue()
    return None


def _of_eight_bits(image: Any) -> Any:
    """Return an image of Pillow in colours of eight bits; one of more bits is stretched from darkest to brightest."""
    if image.mode in {"I", "F"} or image.mode.startswith("I;"):
        image = image.convert("I") if ";" in image.mode else image
        darkest, brightest = image.getextrema()
        if not (isfinite(darkest) and isfinite(brightest)):
            raise PianoError("an image of numbers that are not finite (NaN, infinite) cannot be shown: replace them")
        factor = 255 / (brightest - darkest) if brightest > darkest else 1
        image = image.convert("F").point(lambda value: value * factor - darkest * factor)
    return image.convert("RGBA" if "A" in image.getbands() or "transparency" in image.info else "RGB")


def _is_turned(content: bytes) -> bool:
    """Return whether an image says that it is to be turned, as photos do: models see it as it is stored."""
    if b"Exif\0\0" not in content[:MAX_METADATA_BYTES] and b"eXIf" not in content[:MAX_METADATA_BYTES]:
        return False
    try:
        from PIL import Image  # noqa: PLC0415  Optional.
    except ImportError:
        return False
    with suppress(Exception), Image.open(io.BytesIO(content)) as image:  # a broken one is sent as it is
        return bool(image.getexif().get(ORIENTATION, UPRIGHT) != UPRIGHT)
    return False


def _scaled(content: bytes, sides: Iterable[int], max_bytes: int) -> bytes | None:
    """Return the image at the first of these sizes that is small enough; None if there is none, or no Pillow."""
    try:
        from PIL import Image, ImageOps  # noqa: PLC0415  Optional.
    except ImportError:
        return None
    try:
        with Image.open(io.BytesIO(content)) as image:
            check_pixels(image.width, image.height)  # a frame may be larger than the header says
            return scaled_png(ImageOps.exif_transpose(image), sides, max_bytes)
    except PianoError:
        raise
    except Exception as error:  # what a broken file makes of a decoder is not known
        raise PianoError(f"the image cannot be read: {error or type(error).__name__}") from error
