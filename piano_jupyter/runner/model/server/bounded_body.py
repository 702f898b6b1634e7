"""Bounds what is read of a response, also if it is compressed: a server cannot fill the memory."""

import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx

from piano_jupyter.errors import ModelError
from piano_jupyter.secrets.redactor import redact

MAX_BODY_BYTES = 16 << 20  #: of anything but a streamed answer
MAX_STREAM_BYTES = 128 << 20  #: of a streamed answer: several hundred thousand tokens
STEP_BYTES = 1 << 16  #: decompressed at once
ENCODINGS = frozenset({"gzip", "x-gzip", "deflate"})


class BoundedTransport(httpx.AsyncBaseTransport):
    """A transport whose responses are decompressed and end with a ModelError if they are too large."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request; the response's body is bounded."""
        response = await self._inner.handle_async_request(request)
        encoding = response.headers.pop("content-encoding", "").strip().lower()
        streamed = request.method == "POST" and response.is_success
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _BoundedStream(response.stream, encoding, MAX_STREAM_BYTES if streamed else MAX_BODY_BYTES)
        return response

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


class _BoundedStream(httpx.AsyncByteStream):
    """The bytes of a body, decompressed. Raises ModelError if there are too many."""

    def __init__(self, inner: httpx.AsyncByteStream, encoding: str, limit: int) -> None:
        self._inner, self._encoding, self._limit = inner, encoding, limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._encoding not in {"", "identity", *ENCODINGS}:
            raise ModelError(
                f"the server compressed its answer ({redact(self._encoding[:40])}), which it was asked not to do"
            )
        left = self._limit
        decompress = _Decompressor(self._encoding) if self._encoding in ENCODINGS else None
        async for raw in self._inner:
            for piece in [raw] if decompress is None else decompress.pieces(raw):
                left -= len(piece)
                if left < 0:
                    raise ModelError(
                        f"the server's answer is larger than {self._limit >> 20} MiB, and the rest was not read; "
                        f"see the server's log"
                    )
                yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Decompressor:
    """Decompresses gzip and deflate in small steps."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._inflate: Any = None

    def pieces(self, raw: bytes) -> Iterator[bytes]:
        """Yield what the bytes contain. Raises httpx.DecodingError."""
        if self._inflate is None and raw:  # some servers send deflate without zlib's header
            bare = self._encoding == "deflate" and raw[0] & 0x0F != zlib.DEFLATED
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS if bare else zlib.MAX_WBITS | 32)
        try:
            while raw and not self._inflate.eof:
                if piece := self._inflate.decompress(raw, STEP_BYTES):
                    yield piece
                raw = self._inflate.unconsumed_tail
        except zlib.error as error:
            raise httpx.DecodingError(str(error)) from error
