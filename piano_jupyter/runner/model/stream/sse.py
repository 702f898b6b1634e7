"""Bytes to the events of a stream: server-sent events, in whatever shape servers send them.

Pure, and linear: a line is put together once, however many pieces it comes in.
"""

LONGEST_LINE = 1 << 26  #: bytes; a longer one is not kept
FIELDS = (":", "event:", "id:", "retry:")  # lines that say nothing here


class SseDecoder:
    """Bytes to the `data` of events: any line end, comments, a byte order mark, JSON lines that are no events."""

    def __init__(self) -> None:
        self._line: list[bytes] = []  # the pieces of a line that has not ended
        self._length = 0  # of these, in bytes
        self._data: list[str] = []  # the lines of an event that has not ended
        self._json: list[str] = []  # the lines of JSON that is no event and has not ended
        self._strange = ""  # the first line that is none of this
        self._returned = False  # the last piece ended with a carriage return
        self._begun = self._told = False

    def feed(self, piece: bytes) -> list[str]:
        """Return the data of each event that is now complete."""
        if self._returned and piece[:1] == b"\n":
            piece = piece[1:]
        self._returned = piece[-1:] == b"\r"
        if b"\r" in piece:
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        first, *others = piece.split(b"\n")
        self._length += len(first)
        self._line.append(first)
        if self._length > LONGEST_LINE:
            self._line.clear()
        if not others:
            return []
        *lines, rest = b"".join(self._line), *others
        self._line, self._length = [rest], len(rest)
        return self._read(lines)

    def close(self) -> list[str]:
        """Return what the end of the stream completes; where there was no event at all, what there was instead."""
        complete = self._read([b"".join(self._line), b""])
        self._line = []
        if self._json:
            complete.append("\n".join(self._json))
            self._json = []
        if not complete and not self._told and self._strange:
            complete.append(self._strange)
        return complete

    def _read(self, lines: list[bytes]) -> list[str]:
        complete = []
        for raw in lines:
            line = raw.decode("utf-8", "replace")
            if not self._begun and line:
                line, self._begun = line.removeprefix("\ufeff"), True
            if line.startswith("data:"):
                if self._data and _is_whole(self._data[-1]):  # no empty line between two events
                    complete.append("\n".join(self._data))
                    self._data = []
                self._data.append(line[5:].removeprefix(" "))
            elif not line:
                if self._data:
                    complete.append("\n".join(self._data))
                    self._data = []
            elif line.startswith("error:"):  # older llama.cpp servers have a field of their own for it
                complete.append(f'{{"error":{line[6:]}}}')
            elif _is_whole(line):  # a proxy whose upstream failed answers with plain JSON in the middle
                complete.append(line)
            elif self._json or line.startswith(("{", "[")):
                self._json.append(line)
            elif not self._strange and not line.startswith(FIELDS):
                self._strange = line[:200]
        self._told = self._told or bool(complete)
        return complete


def _is_whole(line: str) -> bool:
    return line.startswith("{") and line.rstrip().endswith("}")
