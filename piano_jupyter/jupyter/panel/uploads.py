"""Uploads: files and images that were put into the panel and are not sent yet, and those that still arrive in parts."""

import base64
import binascii
from dataclasses import dataclass, field
from pathlib import PurePath

from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.attachments.given import MAX_ATTACHMENTS, sent_image, text_attachment
from piano_jupyter.attachments.image_header import MAX_IMAGE_BYTES, image_header
from piano_jupyter.errors import PianoError

MAX_PART_CHARS = 1 << 20  # of a part in base64: a websocket takes no messages of any size
MAX_KEPT = 3 * MAX_ATTACHMENTS  # the oldest of more are forgotten


@dataclass
class _Upload:
    """A file of which parts have come."""

    name: str
    parts: list[bytes] = field(default_factory=list)
    size: int = 0


class Uploads:
    """The files of one panel, by the keys that its pages have given them."""

    def __init__(self) -> None:
        self._arriving: dict[str, _Upload] = {}
        self._complete: dict[str, Attachment] = {}

    def add_part(self, key: str, name: str, part: str, *, number: int) -> None:
        """Take the next part of a file, in base64. Raises PianoError for a file that is too large or out of order."""
        upload = self._arriving.setdefault(key, _Upload(PurePath(name).name or "file"))
        if number != len(upload.parts) or len(part) > MAX_PART_CHARS:
            self.forget(key)
            raise PianoError(f"a part of {upload.name} was lost on its way; attach it again")
        try:
            upload.parts.append(base64.b64decode(part, validate=True))
        except binascii.Error:
            self.forget(key)
            raise PianoError(f"a part of {upload.name} arrived damaged; attach it again") from None
        upload.size += len(upload.parts[-1])
        if upload.size > MAX_IMAGE_BYTES or len(self._arriving) > MAX_KEPT:
            self.forget(key)
            raise PianoError(f"{upload.name} is too large: at most {MAX_IMAGE_BYTES >> 20} MB are taken")

    def finish(self, key: str) -> Attachment:
        """Return a file whose parts have all come, as it is sent. Raises PianoError for what cannot be sent."""
        upload = self._arriving.pop(key, None)
        if upload is None:
            raise PianoError("a file was lost on its way; attach it again")
        content = b"".join(upload.parts)
        is_image = image_header(content) is not None
        return sent_image(content, upload.name) if is_image else text_attachment(content, upload.name)

    def keep(self, key: str, attachment: Attachment) -> None:
        """Keep what can be sent."""
        self._complete[key] = attachment
        while len(self._complete) > MAX_KEPT:
            del self._complete[next(iter(self._complete))]

    def forget(self, key: str) -> None:
        """Forget a file."""
        self._arriving.pop(key, None)
        self._complete.pop(key, None)

    def attachments(self, keys: list[str]) -> list[Attachment]:
        """Return the files with these keys. Raises PianoError if one is not here any more."""
        if any(key not in self._complete for key in keys):
            raise PianoError(
                "a file is no longer here (the kernel was restarted, perhaps): remove it, and attach it again"
            )
        return [self._complete[key] for key in keys]
