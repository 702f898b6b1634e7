"""Attachments as parts of a message's content, as in the OpenAI chat API, and back: a file has no other place for them.

An image is a part `image_url`, anything else a part `file`, each with its bytes as a `data:` address. What comes from a
file is checked as if a tool had just shown it; an address of the web is never fetched.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any

from piano_jupyter.attachments.attachment import SVG, TABLE, TEXT, Attachment
from piano_jupyter.errors import PianoError
from piano_jupyter.text.json_text import mapping

DATA_URI = re.compile(r"data:([a-z]+/[a-z0-9.+-]+);base64,", re.IGNORECASE)


def content_with(text: str, attachments: Sequence[Attachment]) -> Any:
    """Return the content of a message: its text, or parts if it has attachments whose bytes were read."""
    parts = [_part(each) for each in attachments if each.content is not None]
    return [{"type": "text", "text": text}, *parts] if parts else text


def attachment_in(part: Mapping[str, Any]) -> Attachment | None:
    """Return the attachment in a part; None if it holds none. Raises PianoError for one that cannot be kept."""
    from piano_jupyter.attachments.displayed import displayed_attachment  # noqa: PLC0415  Rarely wanted.
    from piano_jupyter.attachments.given import text_attachment  # noqa: PLC0415

    name, uri = "", mapping(part.get("image_url")).get("url")
    if part.get("type") == "file":
        name, uri = (str(mapping(part.get("file")).get(key) or "") for key in ("filename", "file_data"))
    if not isinstance(uri, str) or (found := DATA_URI.match(uri)) is None:
        return None
    mime = found[1].lower()
    try:
        content = base64.b64decode(uri[found.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise PianoError(f"an attachment is not in base64 ({error})") from error
    if mime == TEXT:
        return text_attachment(content, name)
    kept = displayed_attachment({mime: content.decode("utf-8", "replace") if mime in {SVG, TABLE} else content})
    if kept is None or not name:
        return kept
    return Attachment.of(kept.content or b"", kept.mime, name=name, width=kept.width, height=kept.height)


def cleaned_table(attachment: Attachment) -> str:
    """Return a table as HTML; it is cleaned once more, since another program may have written it."""
    from piano_jupyter.attachments.safe_html import safe_tables  # noqa: PLC0415  Rarely wanted.

    return safe_tables(attachment.text)


def _part(attachment: Attachment) -> dict[str, Any]:
    if attachment.is_image:
        return {"type": "image_url", "image_url": {"url": attachment.data_uri}}
    return {"type": "file", "file": {"filename": attachment.name, "file_data": attachment.data_uri}}
