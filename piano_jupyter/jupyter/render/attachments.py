"""Attachments as HTML: figures and images, tables, text files.

Nothing in them is trusted, wherever they come from: an image and an SVG are shown as `<img>`, in which no script runs,
the header of an image is checked, a table is cleaned, a text is escaped.
"""

from collections.abc import Sequence
from html import escape

from piano_jupyter.attachments.attachment import IMAGES, SVG, TABLE, TEXT, Attachment
from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.render.tables import SMALL_GREY

MAX_SHOWN_BYTES = 2_000_000  # of all attachments in one output: the Jupyter server drops outputs of more than 3 MB
IMAGE_STYLE = "display:block;max-width:100%;max-height:40em;background:white"


def attachments_html(attachments: Sequence[Attachment]) -> str:
    """Return attachments one below the other; one whose content was not read as a line with its name."""
    return "".join(map(attachment_html, attachments))


def attachment_html(attachment: Attachment) -> str:
    """Return one attachment."""
    label = escape(attachment.label)
    try:
        shown = "" if attachment.content is None else _content_html(attachment)
    except PianoError as error:
        label, shown = f"{label}: {escape(str(error))}", ""
    return shown or f"<div {SMALL_GREY}>[{label}]</div>"


def label_lines(attachments: Sequence[Attachment]) -> list[str]:
    """Return attachments as lines of text."""
    return [f"[{each.label}]" for each in attachments]


def _content_html(attachment: Attachment) -> str:
    """Return the content, or "" where it cannot be shown. Raises PianoError for an image that is too large."""
    from piano_jupyter.attachments.image_header import check_image  # noqa: PLC0415  Rarely wanted.
    from piano_jupyter.attachments.safe_html import checked_svg, safe_tables  # noqa: PLC0415

    text = escape(attachment.label)
    if attachment.mime in IMAGES or attachment.mime == SVG:
        if attachment.mime == SVG:
            checked_svg(attachment.text)
        else:
            check_image(attachment.content or b"")
        return f'<img src="{escape(attachment.data_uri)}" alt="{text}" style="{IMAGE_STYLE}">'
    if attachment.mime == TABLE:
        return f'<div style="overflow:auto;max-height:30em">{safe_tables(attachment.text)}</div>'
    if attachment.mime == TEXT:
        return f"<details><summary>{text}</summary><pre>{escape(attachment.text)}</pre></details>"
    return ""
