"""What a user attaches to a question: the path of a file, bytes, an image of Pillow, a figure, as an attachment."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from piano_jupyter.attachments.attachment import TEXT, Attachment
from piano_jupyter.attachments.displayed import image_attachment
from piano_jupyter.attachments.image_header import MAX_IMAGE_BYTES, image_header
from piano_jupyter.attachments.scaling import for_model
from piano_jupyter.errors import PianoError
from piano_jupyter.safe_files import read_file

MAX_TEXT_CHARS = 100_000  #: of a text file
MAX_ATTACHMENTS = 10  #: of one question
FIGURE_INCHES = "get_size_inches"  #: what a figure of matplotlib has, beside `savefig`


def as_attachment(value: Any) -> Attachment | None:
    """Return an image as an attachment: bytes, an image of Pillow, a figure of matplotlib or what shows itself as PNG.

    None for anything else: a text is a text, not a path. Raises PianoError for an image that cannot be sent.
    """
    if isinstance(value, Attachment):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        content: bytes | None = bytes(value)
        if image_header(content or b"") is None:
            return None
    else:
        content = _png_of(value)
    return None if content is None else sent_image(content)


def attachment_from_file(path: str | Path, *, workspace: str | Path, only_beneath: bool = False) -> Attachment:
    """Return an image or a text file as an attachment.

    With `only_beneath` it must be in the workspace: what an agent names is. Raises PianoError for another file, one
    that is not there, and one that cannot be sent.
    """
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


def _is_beneath(file: Path, workspace: Path) -> bool:
    return (Path.cwd() / file).resolve().is_relative_to(workspace.resolve())


def _png_of(value: Any) -> bytes | None:
    """Return a value as PNG, if it is a figure or an image; no other code of it runs."""
    kind = type(value)
    if callable(getattr(kind, "savefig", None)) and hasattr(kind, FIGURE_INCHES):
        return _run(value, _saved_figure)
    if callable(getattr(kind, "_repr_png_", None)):
        return _run(value, lambda shown: shown._repr_png_())
    figure = getattr(value, "figure", None) if kind.__module__.split(".")[0] in {"matplotlib", "seaborn"} else None
    return None if figure is None or figure is value else _png_of(figure)


def _saved_figure(figure: Any) -> bytes:
    written = io.BytesIO()
    figure.savefig(written, format="png", bbox_inches="tight")
    return written.getvalue()


def _run(value: Any, show: Callable[[Any], Any]) -> bytes | None:
    """Return what the code of a figure gives as bytes. Raises PianoError if it fails."""
    try:
        shown = show(value)
    except Exception as error:
        raise PianoError(f"{type(value).__name__} cannot be shown as an image: {error}") from error
    content = shown[0] if isinstance(shown, tuple) and len(shown) == 2 and isinstance(shown[1], Mapping) else shown
    return bytes(content) if isinstance(content, bytes | bytearray) else None
