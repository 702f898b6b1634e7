"""Decodes server-sent events from bytes, in all the variants that servers send.

Pure, and linear: a line is joined once, however many pieces it comes in.
"""

MAX_LINE_BYTES = 1 << 26  #: a longer line is dropped
IGNORED_FIELDS = (":", "event:", "id:", "retry:")  # lines to ignore


class SseDecoder:
    """Decodes the `data` of events; accepts any line end, comments, a byte order mark, and plain JSON lines."""

    def __init__(self) -> None:
        self._line: list[bytes] = []  # the pieces of the incomplete line
        self._length = 0  # of these pieces, in bytes
        self._data: list[str] = []  # the lines of the incomplete event
        self._json: list[str] = []  # the lines of incomplete JSON outside an event
        self._unexpected = ""  # the first line that is none of these
        self._after_cr = False  # the last piece ended with a carriage return
        self._started = self._any_event = False

    def feed(self, piece: bytes) -> list[str]:
        """Return the data of each event that is now complete."""
        if self._after_cr and piece[:1] == b"\n":
            piece = piece[1:]
        self._after_cr = piece[-1:] == b"\r"
        if b"\r" in piece:
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        first, *others = piece.split(b"\n")
        self._length += len(first)
        self._line.append(first)
        if self._length > MAX_LINE_BYTES:
            self._line.clear()
        if not others:
            return []
        *lines, rest = b"".join(self._line), *others
        self._line, self._length = [rest], len(rest)
        return self._read(lines)

    def close(self) -> list[str]:
        """Return the last event; if there was none in the stream, return the first other line instead."""
        complete = self._read([b"".join(self._line), b""])
        self._line = []
        if self._json:
            complete.append("\n".join(self._json))
            self._json = []
        if not complete and not self._any_event and self._unexpected:
            complete.append(self._unexpected)
        return complete

    def _read(self, lines: list[bytes]) -> list[str]:
        complete = []
        for raw in lines:
            line = raw.decode("utf-8", "replace")
            if not self._started and line:
                line, self._started = line.removeprefix("\ufeff"), True
            if line.startswith("data:"):
                if self._data and _is_json_object(self._data[-1]):  # no blank line between two events
                    complete.append("\n".join(self._data))
                    self._data = []
                value = line[5:].removeprefix(" ")
                self._data.append(value[5:].removeprefix(" ") if value.startswith("data:") else value)  # by two proxies
            elif not line:
                if self._data:
                    complete.append("\n".join(self._data))
                    self._data = []
            elif line.startswith("error:"):  # older llama.cpp servers have their own field for errors
                complete.append(f'{{"error":{line[6:]}}}')
            elif _is_json_object(line):  # a proxy sends plain JSON when its upstream fails
                complete.append(line)
            elif self._json or line.startswith(("{", "[")):
                self._json.append(line)
            elif not (self._unexpected or line.startswith(IGNORED_FIELDS) or "data:".startswith(line)):
                self._unexpected = line[:200]
        self._any_event = self._any_event or bool(complete)
        return complete


def _is_json_object(line: str) -> bool:
    return line.startswith("{") and line.rstrip().endswith("}")
