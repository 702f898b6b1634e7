"""WorkspaceFile: the MCP servers of a workspace's `.mcp.json`, which counts only if the user trusts exactly this text.

The file may have come with a checkout, and it runs programs. So its hash is recorded in the user's data folder when the
user trusts it; any other text in it counts for nothing.
"""

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from piano_jupyter.errors import PianoError
from piano_jupyter.mcp_server import McpServerSettings, parse_servers
from piano_jupyter.runner.tools.files.server_programs import FILE_NAME, MAX_FILE_BYTES
from piano_jupyter.runner.tools.mcp.user_records import UserRecords
from piano_jupyter.safe_files import closing_descriptor
from piano_jupyter.text.json_text import mapping, parse_json

TRUSTED = "trusted"
TRUST = f"%piano mcp trust shows what {FILE_NAME} runs, and trusts it"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """What the file says now, and whether the user trusts it. `problem` says why it cannot be read.

    `left_out` says of each server that is set wrongly what is wrong.
    """

    digest: str = ""
    servers: dict[str, McpServerSettings] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    trusted: bool = False
    problem: str = ""


class WorkspaceFile:
    """The `.mcp.json` of a workspace."""

    def __init__(self, workspace: Callable[[], Path]) -> None:
        self._workspace = workspace
        self._records = UserRecords("mcp-files", workspace)
        self._seen: tuple[object, FoundFile] = (None, FoundFile())  # what was read last, by the file's state

    def read(self) -> FoundFile:
        """Return what the file says, and whether that is trusted; empty if there is no file. Blocks on file access."""
        path = self._workspace() / FILE_NAME
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return FoundFile()
        except OSError as error:
            return FoundFile(problem=f"{FILE_NAME} cannot be read: {error.strerror} (a link is not followed)")
        with closing_descriptor(handle):
            about = os.fstat(handle)
            state = (str(path), about.st_ino, about.st_mtime_ns, about.st_ctime_ns, about.st_size)
            if self._seen[0] == state:
                return self._judged(self._seen[1])
            if not stat.S_ISREG(about.st_mode) or about.st_size > MAX_FILE_BYTES:
                return FoundFile(problem=f"{FILE_NAME} is not a file of at most {MAX_FILE_BYTES:,} bytes")
            content = _content(handle)
        found = _parse(content)
        self._seen = state, found
        return self._judged(found)

    def trust(self, digest: str) -> str:
        """Trust the text with this hash. Returns why that holds only until this process ends, "" if it is kept.

        Raises PianoError if the file has another text now.
        """
        self._seen = None, FoundFile()
        if not digest or self.read().digest != digest:
            raise PianoError(f"{FILE_NAME} has changed since it was shown; look at it again: {TRUST}")
        self._records.put(digest, TRUSTED)
        return self._records.problem

    def _judged(self, found: FoundFile) -> FoundFile:
        return replace(found, trusted=bool(found.digest) and self._records.get(found.digest) == TRUSTED)


def _content(handle: int) -> bytes:
    parts, left = [], MAX_FILE_BYTES
    while left and (part := os.read(handle, left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _parse(content: bytes) -> FoundFile:
    digest = hashlib.sha256(content).hexdigest()
    left_out: dict[str, str] = {}
    try:
        servers = parse_servers(mapping(parse_json(content)).get("mcpServers", {}), FILE_NAME, left_out)
        return FoundFile(digest, servers, left_out, problem="" if servers else next(iter(left_out.values()), ""))
    except PianoError as error:
        return FoundFile(digest, problem=str(error))
    except ValueError:
        return FoundFile(digest, problem=f"{FILE_NAME} is not valid JSON")
