"""What the first bytes of an image say: its type and its size. Nothing is decoded, so that no image can fill memory."""

from collections.abc import Callable
from typing import NamedTuple

from piano_jupyter.errors import PianoError

MAX_PIXELS = 40_000_000  #: of an image; what decodes it needs four bytes for each
MAX_IMAGE_BYTES = 20 * 2**20
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  #: the markers of JPEG that give the size
WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})


class ImageHeader(NamedTuple):
    """The type and size of an image."""

    mime: str
    width: int
    height: int


def image_header(content: bytes) -> ImageHeader | None:
    """Return the type and size of a PNG, JPEG, GIF or WebP; None for anything else, and for a broken header."""
    for mime, (sign, size) in READERS.items():
        if content.startswith(sign) and (found := size(content)) is not None and min(found) > 0:
            return ImageHeader(mime, *found)
    return None


def check_image(content: bytes, name: str = "the image") -> ImageHeader:
    """Return the header of an image that may be shown and sent.

    Raises PianoError for what is no image, and for one that is too large: of many bytes, or of many pixels.
    """
    header = image_header(content)
    if header is None:
        raise PianoError(f"{name} is no PNG, JPEG, GIF or WebP image")
    check_pixels(header.width, header.height, name)
    if len(content) > MAX_IMAGE_BYTES:
        raise PianoError(
            f"{name} has {len(content) / 2**20:,.0f} MB, which is too large: "
            f"at most {MAX_IMAGE_BYTES / 2**20:.0f} MB are taken; make it smaller"
        )
    return header


def check_pixels(width: int, height: int, name: str = "the image") -> None:
    """Raise PianoError for an image of too many pixels."""
    if width * height > MAX_PIXELS:
        raise PianoError(
            f"{name} has {width:,} × {height:,} pixels, which is too large: "
            f"at most {MAX_PIXELS / 1e6:.0f} million are taken; make it smaller"
        )


Size = tuple[int, int]


def _png(content: bytes) -> Size | None:
    if content[12:16] != b"IHDR" or len(content) < 24:
        return None
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


def _gif(content: bytes) -> Size | None:
    if content[4:6] not in {b"7a", b"9a"} or len(content) < 10:
        return None
    return int.from_bytes(content[6:8], "little"), int.from_bytes(content[8:10], "little")


def _webp(content: bytes) -> Size | None:
    if content[8:12] != b"WEBP" or len(content) < 30:
        return None
    match content[12:16]:
        case b"VP8X":
            return int.from_bytes(content[24:27], "little") + 1, int.from_bytes(content[27:30], "little") + 1
        case b"VP8L":
            bits = int.from_bytes(content[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            return (
                int.from_bytes(content[26:28], "little") & 0x3FFF,
                int.from_bytes(content[28:30], "little") & 0x3FFF,
            )
    return None


def _jpeg(content: bytes) -> Size | None:
    at = 2
    while at + 9 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker in START_OF_FRAME:
            return int.from_bytes(content[at + 7 : at + 9], "big"), int.from_bytes(content[at + 5 : at + 7], "big")
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in WITHOUT_LENGTH:
            at += 2
        else:
            at += 2 + max(int.from_bytes(content[at + 2 : at + 4], "big"), 2)
    return None


READERS: dict[str, tuple[bytes, Callable[[bytes], Size | None]]] = {
    "image/png": (b"\x89PNG\r\n\x1a\n", _png),
    "image/jpeg": (b"\xff\xd8", _jpeg),
    "image/gif": (b"GIF8", _gif),
    "image/webp": (b"RIFF", _webp),
}
