"""What code displays (a bundle of MIME types) as an attachment that is safe to show."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from piano_jupyter.attachments.attachment import SVG, TABLE, Attachment
from piano_jupyter.attachments.image_header import check_image
from piano_jupyter.attachments.safe_html import checked_svg, safe_tables, svg_size
from piano_jupyter.attachments.scaling import for_showing
from piano_jupyter.errors import PianoError

PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
SHOWN_MIMES = frozenset({*PICTURES, SVG, TABLE})


def displayed_attachment(data: Mapping[str, Any]) -> Attachment | None:
    """Return the figure or the table in what was displayed; None if there is neither.

    Raises PianoError, which says why, for one that cannot be kept.
    """
    for mime in PICTURES:
        if (value := data.get(mime)) is not None:
            return image_attachment(for_showing(image_bytes(value)))
    if isinstance(svg := data.get(SVG), str):
        width, height = svg_size(svg)
        return Attachment.of(checked_svg(svg).encode("utf-8", "replace"), SVG, width=width, height=height)
    if isinstance(html := data.get(TABLE), str) and (table := safe_tables(html)):
        return Attachment.of(table.encode("utf-8", "replace"), TABLE)
    return None


def image_attachment(content: bytes, name: str = "") -> Attachment:
    """Return the bytes of an image as an attachment. Raises PianoError for what is no image, or is too large."""
    header = check_image(content, name or "the image")
    return Attachment.of(content, header.mime, name=name, width=header.width, height=header.height)


def image_bytes(value: Any) -> bytes:
    """Return the bytes of an image that code shows: as they are, or in base64. Raises PianoError."""
    if isinstance(value, bytes):
        return value
    try:
        return base64.b64decode(str(value), validate=False)
    except (binascii.Error, ValueError) as error:
        raise PianoError(f"the image is not in base64 ({error})") from error
