"""Small images, made byte by byte: no library is needed for them. And how a model gets them."""

import base64
import struct
import zlib

VISION = {"/props": {"modalities": {"vision": True}}}  #: what the server of a model that sees images says
NO_VISION = {"/props": {"modalities": {"vision": False, "audio": False}}}


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int = 3, height: int = 2, shade: int = 0) -> bytes:
    """Return a grey PNG of this size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = (b"\0" + bytes([shade]) * width) * height
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(rows)), _chunk(b"IEND", b"")]
    )


def png_that_claims(width: int, height: int) -> bytes:
    """Return a PNG of some hundred bytes whose header gives it this size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(b"\0" * 100))


def image_url(content: bytes, kind: str = "png") -> dict[str, object]:
    """Return the part of a message that has these bytes of an image."""
    return {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{base64.b64encode(content).decode()}"}}
