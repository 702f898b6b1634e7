"""LiveCell: the output of a cell that waits for answers, in a notebook or on a terminal."""

import gc
import sys
import time
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, NamedTuple
from uuid import UUID

from IPython.display import display

from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.jupyter.render.attachments import MAX_SHOWN_BYTES, attachments_html
from piano_jupyter.jupyter.render.tables import NO_MATHJAX, SMALL_GREY
from piano_jupyter.jupyter.render.transcript import call_line
from piano_jupyter.progress import CallProgress, JobProgress, ProgressTracker
from piano_jupyter.records import CallStatus
from piano_jupyter.text.invisible import TerminalStream, terminal_text, to_the_letter

FRAME_INTERVAL_S = 0.05  # the least time between two updates of the cell
MAX_BYTES_PER_S = 200_000  # each update replaces the whole output, so that those of long answers are rarer
PAUSE_PER_DRAWING_TIME = 20  # and so are slow ones
MAX_DRAWING_PAUSE_S = 1.0
MAX_RAW_CHARS = 20_000  # of an answer that is not rendered shows its last characters

#: Final answers are hidden until the live output is emptied: the two change places in one frame of the page.
LIVE_STYLE = (
    "<style>.jp-OutputArea-child:has(.piano-live)~.jp-OutputArea-child:is(:has(.piano-answer),"
    ':has([data-mime-type="text/plain"])){display:none}</style>'
)

LIVE = {"piano": "live"}  #: the metadata of the live output, for the front end


class LivePart(NamedTuple):
    """A text that a model writes, or a line about its tool calls."""

    text: str
    key: UUID | None = None  #: of the message, if it is the text of one


class LiveAnswer(NamedTuple):
    """One answer while it is written."""

    name: str
    parts: tuple[LivePart, ...] = ()
    status: str = ""  #: shown while there is no text
    fraction: float | None = None  #: for a progress bar
    has_ended: bool = False

    @property
    def text(self) -> str:
        """Its parts as lines of text."""
        return "\n".join(part.text for part in self.parts)


def live_answers(following: ProgressTracker) -> list[LiveAnswer]:
    """Return the answers of all jobs as they are now."""
    labels = {"running": "thinking", "thinking": "thinking", "cancelled": "cancelled"}
    if len(following.requested) > 1:
        labels["queued"] = "waiting in the queue"
    return [
        LiveAnswer(
            each.name,
            tuple(_parts_so_far(each)),
            each.note or labels.get(each.status, ""),
            each.fraction,
            each.has_ended,
        )
        for each in following.all
    ]


def _parts_so_far(progress: JobProgress) -> Iterator[LivePart]:
    for key, part in progress.parts.items():
        if isinstance(part, CallProgress):
            if part.flag:
                yield LivePart(to_the_letter(part.warning))
            if part.call.status is not CallStatus.STARTED:
                yield LivePart(call_line(part.call))
        elif written := part.text.getvalue():
            yield LivePart(written, key)


def _load_renderer() -> None:
    """Import what is slow to import, without garbage collection.

    A collection in between takes longer than all else, and an interrupt that comes meanwhile is raised in the callback
    of some weak reference, where Python prints and forgets it.
    """
    is_enabled = gc.isenabled()
    gc.disable()
    try:
        LiveMarkdown()
    finally:
        if is_enabled:
            gc.enable()


class LiveCell:
    """Shows answers while they are written: rendered in a notebook, or with `raw` as they are.

    The live output ends empty; final answers are shown separately, before that.
    """

    def __init__(self, *, in_notebook: bool, raw: bool = False) -> None:
        self._handle = display({}, raw=True, display_id=True) if in_notebook else None
        self._raw = raw
        if in_notebook and not raw:
            _load_renderer()  # while the question is on its way
        self._streams: dict[UUID, LiveMarkdown] = {}  # by message
        self._figures: list[Attachment] = []
        self._figures_handle: Any = None  # below the text, which is drawn far more often
        self._next_drawing = 0.0  # the earliest time of the next one
        self._drawn: list[LiveAnswer] = []
        self._printed = ""  # the part of the current answer that is on the terminal
        self._terminal = TerminalStream()  # sanitizes what is printed
        self._finished = 0  # the number of answers that a terminal shows completely

    def wait_for_next_frame(self) -> None:
        """Wait until the output may be drawn again."""
        time.sleep(max(0.0, self._next_drawing - time.monotonic()))

    def draw(self, answers: Sequence[LiveAnswer]) -> None:
        """Update the output. Several answers have the names of their agents above."""
        if answers == self._drawn or not (self._drawn or any(each.text or each.status for each in answers)):
            return
        began = time.monotonic()
        self._drawn = list(answers)
        size = 0
        if self._handle is None:
            self._print(answers)
        else:
            html = "".join(self._html(each, headed=len(answers) > 1) for each in answers)
            size = len(html)
            shown = {"text/html": f'<div class="piano-live {NO_MATHJAX}">{html}{LIVE_STYLE}</div>'}
            self._handle.update(shown, metadata=LIVE, raw=True)
        ended = time.monotonic()
        self._next_drawing = ended + pause_after(ended - began, size)

    def show_figures(self, figures: Sequence[Attachment]) -> None:
        """Show what a call has shown below the text, with the figures before; a terminal shows none."""
        if self._handle is None or not figures:
            return
        self._figures += figures
        if self._figures_handle is None:
            self._figures_handle = display({}, raw=True, display_id=True)
        html = attachments_html(_newest(self._figures))
        self._figures_handle.update({"text/html": f'<div class="{NO_MATHJAX}">{html}</div>'}, raw=True)

    def end(self) -> None:
        """Empty the live output, or end the line on a terminal. May be called twice."""
        if self._handle is not None:
            self._handle.update({}, raw=True)
            if self._figures_handle is not None:
                self._figures_handle.update({}, raw=True)
        elif self._printed:
            sys.stdout.write(self._terminal.end() + "\n")
        self._printed = ""

    def _html(self, answer: LiveAnswer, *, headed: bool) -> str:
        head = f"<div><strong>{escape(answer.name)}</strong></div>" if headed else ""
        bar = f" <progress value={answer.fraction:.2f}></progress>" if answer.fraction is not None else ""
        status = f"<div {SMALL_GREY}>{escape(answer.status)}{bar}</div>" if answer.status else ""
        return f"{head}{''.join(map(self._part_html, answer.parts))}{status}"

    def _part_html(self, part: LivePart) -> str:
        if part.key is None:
            return f"<div {SMALL_GREY}>{escape(part.text)}</div>"
        if self._raw:
            return f'<pre style="white-space:pre-wrap">{escape(part.text[-MAX_RAW_CHARS:])}</pre>'
        return self._streams.setdefault(part.key, LiveMarkdown()).html(part.text)

    def _print(self, answers: Sequence[LiveAnswer]) -> None:
        """Print what is new, one answer after the other: a terminal cannot change what it has printed.

        An answer that restarts begins on a new line.
        """
        while self._finished < len(answers):
            now = answers[self._finished]
            if not self._printed and len(answers) > 1 and (now.text or now.has_ended):
                sys.stdout.write(terminal_text(f"{now.name}:\n"))
            if not now.text.startswith(self._printed):
                sys.stdout.write(self._terminal.end() + "\n")
                self._printed, self._terminal = "", TerminalStream()
            sys.stdout.write(self._terminal.feed(now.text[len(self._printed) :]))
            self._printed = now.text
            if not now.has_ended or self._finished == len(answers) - 1:
                break
            sys.stdout.write(self._terminal.end() + "\n")
            self._finished, self._printed, self._terminal = self._finished + 1, "", TerminalStream()
        sys.stdout.flush()


def pause_after(drawing_time: float, size: int) -> float:
    """Return the seconds to wait after an update that took this long and has this many bytes."""
    drawing_pause = min(MAX_DRAWING_PAUSE_S, PAUSE_PER_DRAWING_TIME * drawing_time)
    return max(FRAME_INTERVAL_S, drawing_pause, size / MAX_BYTES_PER_S)


def _newest(figures: Sequence[Attachment]) -> list[Attachment]:
    """Return figures of which only the newest have their content, as much as one output holds."""
    left, found = MAX_SHOWN_BYTES, []
    for each in reversed(figures):
        left -= each.size
        found.append(each if left >= 0 else each.without_content())
    return found[::-1]


class LiveMarkdown:
    """A growing text as HTML."""

    def __init__(self) -> None:
        from piano_jupyter.jupyter.render.markdown_html import MarkdownStream  # noqa: PLC0415  Slow to import.

        self._stream = MarkdownStream(appends=False)
        self._length = 0  # of the text so far

    def html(self, text: str) -> str:
        """Return the HTML of the text, which begins as it did the last time."""
        if len(text) > self._length:
            self._stream.add(text[self._length :])
            self._stream.update()
            self._length = len(text)
        return self._stream.finished + self._stream.tail
