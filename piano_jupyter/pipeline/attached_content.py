"""The content of attachments, read from the store for the messages and calls that are shown, exported or sent."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.records import Message, ToolCall
from piano_jupyter.store.base import Store

Attached = TypeVar("Attached", Message, ToolCall)

MAX_READ_BYTES = 32 * 2**20  #: at once: they go through the store process


async def with_content(store: Store, records: Sequence[Attached], max_bytes: int | None = None) -> list[Attached]:
    """Return records whose attachments have their content; beyond `max_bytes` the oldest have none."""
    content = await read_content(store, records, max_bytes)

    def filled(attachments: Sequence[Attachment]) -> tuple[Attachment, ...]:
        return tuple(replace(each, content=content.get(each.sha256)) for each in attachments)

    return [replace(each, attachments=filled(each.attachments)) if each.attachments else each for each in records]


async def read_content(
    store: Store, records: Sequence[Message | ToolCall], max_bytes: int | None = None
) -> dict[str, bytes]:
    """Return the content of the records' attachments by hash, of the newest first, as long as it fits."""
    wanted: dict[str, int] = {}
    left = max_bytes
    for each in (each for record in reversed(records) for each in record.attachments):
        if each.sha256 in wanted or (left is not None and each.size > left):
            continue
        wanted[each.sha256] = each.size
        left = None if left is None else left - each.size
    found: dict[str, bytes] = {}
    for group in _groups(wanted):
        found |= {each.sha256: each.content for each in await store.attachments(group) if each.content is not None}
    return found


def given_attachments(question: Message) -> list[Attachment]:
    """Return the attachments of a question that no `{{…}}` in its text stands for."""
    named = {each.text for each in question.inserted}
    return [each for each in question.attachments if each.reference not in named]


def _groups(sizes: dict[str, int]) -> list[list[str]]:
    """Return hashes in groups that can be read at once."""
    groups: list[list[str]] = []
    size = MAX_READ_BYTES
    for sha256, each in sizes.items():
        if size + each > MAX_READ_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(sha256)
        size += each
    return groups
