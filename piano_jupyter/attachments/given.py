"""What a user attaches to a question: the path of a file, bytes, an image of Pillow, a figure, as an attachment."""

import re
from pathlib import Path
from typing import Any

from piano_jupyter.attachments.attachment import TEXT, Attachment
from piano_jupyter.attachments.displayed import image_attachment
from piano_jupyter.attachments.image_header import MAX_IMAGE_BYTES, image_header
from piano_jupyter.attachments.pictures import picture_bytes
from piano_jupyter.attachments.scaling import for_model
from piano_jupyter.errors import PianoError
from piano_jupyter.safe_files import read_file
from piano_jupyter.text.truncation import truncated

IS_ADDRESS = re.compile(r"(?:https?|ftp|data|s3|gs):", re.IGNORECASE)
MAX_TEXT_CHARS = 100_000  #: of a text file
MAX_ATTACHMENTS = 10  #: of one question


def as_attachment(value: Any) -> Attachment | None:
    """Return an image as an attachment: bytes, an image of Pillow, a figure, what shows itself as an image.

    None for anything else: a text is a text, not a path. Raises PianoError for an image that cannot be sent.
    """
    if isinstance(value, Attachment):
        return _attached_before(value)
    if isinstance(value, bytes | bytearray | memoryview):
        content = bytes(value)
        return None if image_header(content) is None else sent_image(content)
    picture = picture_bytes(value)
    return None if picture is None else sent_image(picture)


def attachment_from_file(path: str | Path, *, workspace: str | Path, only_beneath: bool = False) -> Attachment:
    """Return an image or a text file as an attachment.

    With `only_beneath` it must be in the workspace: what an agent names is. Raises PianoError for another file, one
    that is not there, and one that cannot be sent.
    """
    if IS_ADDRESS.match(str(path)):
        raise PianoError(f"{truncated(str(path), 100)} is an address: download the image, and name its file")
    file = Path(path).expanduser()
    if only_beneath and not _is_beneath(file, Path(workspace)):
        raise PianoError(f"{path} is outside of the workspace: agents attach files of the workspace only")
    content = read_file(file, workspace=workspace, max_bytes=MAX_IMAGE_BYTES)
    if image_header(content) is not None:
        return sent_image(content, file.name)
    return text_attachment(content, file.name)


def image_file(path: str | Path, *, workspace: str | Path, only_beneath: bool = False) -> Attachment:
    """Return the file of an image as an attachment, for `image("…")`. Raises PianoError for any other file."""
    found = attachment_from_file(path, workspace=workspace, only_beneath=only_beneath)
    if not found.is_image:
        raise PianoError(f"{path} is no PNG, JPEG, GIF or WebP image")
    return found


def given_attachment(value: Any, *, workspace: str | Path, only_beneath: bool = False) -> Attachment:
    """Return what a user has given as an attachment: also the path of a file. Raises PianoError for anything else."""
    if isinstance(value, str | Path):
        return attachment_from_file(value, workspace=workspace, only_beneath=only_beneath)
    found = as_attachment(value)
    if found is None:
        raise PianoError(
            f"{type(value).__name__} cannot be attached: give the path of a file, the bytes of an image, an image of "
            f"Pillow or a figure"
        )
    return found


def sent_image(content: bytes, name: str = "") -> Attachment:
    """Return an image as a model is sent it, scaled down if need be. Raises PianoError."""
    return image_attachment(for_model(content, name or "the image"), name)


def text_attachment(content: bytes, name: str) -> Attachment:
    """Return the bytes of a text file as an attachment. Raises PianoError for what is no text, or is too long."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise PianoError(f"{name} is neither an image (PNG, JPEG, GIF, WebP) nor a text in UTF-8")
    if len(text) > MAX_TEXT_CHARS:
        raise PianoError(
            f"{name} has {len(text):,} characters, and at most {MAX_TEXT_CHARS:,} can be attached: attach a part of it"
        )
    return Attachment.of(text.encode(), TEXT, name=name)


def _attached_before(attachment: Attachment) -> Attachment:
    """Return an attachment of a message or a call to be sent again; nothing that it says of its bytes is believed."""
    if attachment.content is None:
        raise PianoError(
            f"the content of {attachment.label} was not read: await piano.with_content([message]) reads it"
        )
    if attachment.mime == TEXT:
        return text_attachment(attachment.content, attachment.name)
    return sent_image(attachment.content, attachment.name)


def _is_beneath(file: Path, workspace: Path) -> bool:
    return (Path.cwd() / file).resolve().is_relative_to(workspace.resolve())
