"""Attachment: what belongs to a message or a tool call beside its text. Its bytes are stored once, by their hash."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Self

IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})  #: what a model can be sent
SVG, TABLE, TEXT = "image/svg+xml", "text/html", "text/plain"
SUFFIXES = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
    "image/webp": "webp",
    SVG: "svg",
    TABLE: "html",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Attachment:
    """A figure, an image, a table or a text file that belongs to a message or a tool call.

    Attributes:
        sha256: The hash of its bytes, in hexadecimal digits: by it they are stored once.
        mime: Its type: "image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml", "text/html" (a table)
            or "text/plain".
        size: How many bytes it has.
        name: The name of its file, if it has one.
        width: Of an image, in pixels; 0 if that is not known.
        height: The same.
        content: Its bytes; None where only the record was read (`Piano.with_content` reads them).

    Example:
        >>> answer = await piano.ask("What is in this picture?", attachments=["plot.png"])
        >>> [question, _] = await piano.messages(piano.thread)
        >>> question.attachments[0].label
        'plot.png, 640 × 480'
    """

    sha256: str
    mime: str
    size: int
    name: str = ""
    width: int = 0
    height: int = 0
    content: bytes | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, content: bytes, mime: str, *, name: str = "", width: int = 0, height: int = 0) -> Self:
        """Return the attachment that has these bytes."""
        return cls(
            sha256=hashlib.sha256(content).hexdigest(),
            mime=mime,
            size=len(content),
            name=name,
            width=width,
            height=height,
            content=content,
        )

    @property
    def is_image(self) -> bool:
        """Whether a model that sees images can be sent it."""
        return self.mime in IMAGES

    @property
    def label(self) -> str:
        """What people and models call it: its name or kind, and its size."""
        kind = {TABLE: "table", TEXT: "text"}.get(self.mime, "image" if self.is_image else "figure")
        return f"{self.name or kind}, {self.size_text}"

    @property
    def reference(self) -> str:
        """What stands for it in the text of a question."""
        return f"[{self.label}]"

    @property
    def size_text(self) -> str:
        """Its size: in pixels if that is known, else in bytes."""
        return f"{self.width:,} × {self.height:,}" if self.width and self.height else f"{self.size:,} bytes"

    @property
    def text(self) -> str:
        """Its content as text, "" if that was not read."""
        return (self.content or b"").decode("utf-8", "replace")

    @property
    def data_uri(self) -> str:
        """Its content as a `data:` address. Raises ValueError if that was not read."""
        if self.content is None:
            raise ValueError(f"the content of {self.label} was not read")
        return f"data:{self.mime};base64,{base64.b64encode(self.content).decode('ascii')}"

    def without_content(self) -> Self:
        """Return the record alone."""
        return replace(self, content=None)

    def masked(self, mask: Callable[[str], str]) -> "Attachment":
        """Return it without the secrets that `mask` finds in its name and, if it is text, in its content."""
        name, content = mask(self.name), self.content
        if content is not None and self.mime not in IMAGES:
            content = mask(self.text).encode()
        if content is None or content == self.content:
            return replace(self, name=name) if name != self.name else self
        return Attachment.of(content, self.mime, name=name, width=self.width, height=self.height)
