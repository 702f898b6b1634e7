"""What a tool of a server returns, as a text for the model and attachments for people. All of it is untrusted."""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.attachments.displayed import PICTURES, displayed_attachment
from piano_jupyter.errors import PianoError, ToolError
from piano_jupyter.text.truncation import truncated
from piano_jupyter.tool import ResultWithAttachments

MAX_IMAGES = 20
MAX_PARTS = 1000


def tool_result(given: Mapping[str, Any]) -> str | ResultWithAttachments:
    """Return a result for the model and for people. Raises ToolError if the tool says that it failed."""
    texts, images = [], dict[str, Attachment]()
    parts = given.get("content") or []
    for part in parts[:MAX_PARTS]:
        text, image = _part(part)
        if image is not None and len(images) == MAX_IMAGES and image.sha256 not in images:
            text, image = f"[an image was not kept: a call shows at most {MAX_IMAGES}]", None
        if image is not None:
            images[image.sha256] = image
        texts.append(text)
    if len(parts) > MAX_PARTS:
        texts.append(f"[{len(parts) - MAX_PARTS:,} more parts are left out]")
    has_text = any(each.get("type") == "text" and each.get("text") for each in parts)
    if not has_text and given.get("structuredContent") is not None:
        texts.append(json.dumps(given["structuredContent"], ensure_ascii=False))
    text = "\n".join(filter(None, texts))
    if given.get("isError"):
        raise ToolError(text or "the tool failed without a reason")
    return ResultWithAttachments(text=text, attachments=tuple(images.values())) if images else text


def resource_text(given: Mapping[str, Any]) -> str:
    """Return what a resource contains, as text. Raises PianoError if it has none."""
    contents = given.get("contents") or []
    texts = [str(each["text"]) for each in contents if each.get("text") is not None]
    if contents and not texts:
        raise PianoError(f"it has no text, only {contents[0].get('mimeType') or 'binary data'}")
    return "\n".join(texts)


def part_text(part: Mapping[str, Any]) -> str:
    """Return a part of a prompt as a text; an image is left out."""
    text, image = _part(part)
    return text if image is None else "[an image was left out]"


def _part(part: Mapping[str, Any]) -> tuple[str, Attachment | None]:
    """Return what the model reads of a part of a result, and the image that people see."""
    mime = str(part.get("mimeType") or "")
    match part.get("type"):
        case "text":
            return str(part.get("text", "")), None
        case "image":
            return _image(part.get("data"), mime)
        case "audio":
            return f"[audio, {mime}; not kept]", None
        case "resource_link":
            about = " ".join(str(part.get(each) or "") for each in ("name", "description"))
            return f"[link: {part.get('uri')} {about.strip()}]", None
        case "resource":
            return _resource(part.get("resource") or {})
    return f"[a part of the kind {truncated(str(part.get('type')), 40)!r} was left out]", None


def _resource(resource: Mapping[str, Any]) -> tuple[str, Attachment | None]:
    mime, where = str(resource.get("mimeType") or ""), f"[resource {resource.get('uri')}]"
    if resource.get("text") is not None:
        return f"{where}\n{resource['text']}", None
    if mime in PICTURES:
        text, image = _image(resource.get("blob"), mime)
        return f"{where} {text}", image
    return f"{where} {mime or 'binary data'}, not kept", None


def _image(data: Any, mime: str) -> tuple[str, Attachment | None]:
    mime = mime.lower().replace("/jpg", "/jpeg")
    if mime not in PICTURES:
        return f"[an image of the type {truncated(mime, 40)!r} was not kept]", None
    try:
        text = "".join(str(data).rpartition(",")[2].split())  # some write a data URL, break lines, or do not fill it
        content = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        found = displayed_attachment({mime: content})
    except (binascii.Error, ValueError):
        return "[an image was not kept: it is not in base64]", None
    except PianoError as error:
        return f"[an image was not kept: {error}]", None
    return (f"[shown to the user: {found.label}]", found) if found is not None else ("", None)
