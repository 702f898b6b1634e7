"""LiveCell: the output of a cell that waits for answers, in a notebook or on a terminal."""

import sys
import time
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

from IPython.display import display

from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.jupyter.render.attachments import MAX_SHOWN_BYTES, attachments_html
from piano_jupyter.jupyter.render.tables import NO_MATHJAX, SMALL_GREY
from piano_jupyter.jupyter.render.transcript import call_line
from piano_jupyter.progress import CallProgress, JobProgress, ProgressTracker
from piano_jupyter.records import CallStatus
from piano_jupyter.text.invisible import TerminalStream, terminal_text, to_the_letter

FRAME_INTERVAL_S = 0.05  # the least time between two updates of the cell
MAX_LIVE_CHARS = 20_000  # of an answer shows its last characters while it is written
PAUSE_PER_DRAWING_TIME = 20  # slow drawings of long answers are rarer


class LiveAnswer(NamedTuple):
    """One answer while it is written."""

    name: str
    text: str = ""
    status: str = ""  #: shown while there is no text
    fraction: float | None = None  #: for a progress bar
    has_ended: bool = False


def live_answers(following: ProgressTracker) -> list[LiveAnswer]:
    """Return the answers of all jobs as they are now."""
    labels = {"thinking": "thinking", "cancelled": "cancelled"}
    if len(following.requested) > 1:
        labels["queued"] = "waiting in the queue"
    return [
        LiveAnswer(
            each.name, _text_so_far(each), each.note or labels.get(each.status, ""), each.fraction, each.has_ended
        )
        for each in following.all
    ]


def _text_so_far(progress: JobProgress) -> str:
    lines = []
    for part in progress.parts.values():
        if isinstance(part, CallProgress):
            lines += [to_the_letter(part.warning)] if part.flag else []
            lines += [call_line(part.call)] if part.call.status is not CallStatus.STARTED else []
        elif written := part.text.getvalue():
            lines.append(written)
    return "\n".join(lines)


class LiveCell:
    """Shows answers while they are written. The live output ends empty; final answers are shown separately."""

    def __init__(self, *, in_notebook: bool) -> None:
        self._handle = display({}, raw=True, display_id=True) if in_notebook else None
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
        if self._handle is None:
            self._print(answers)
        else:
            several, answers = len(answers) > 1, [each._replace(text=_last_part(each.text)) for each in answers]
            html = "".join(_html(each, headed=several) for each in answers)
            plain = "\n\n".join(filter(None, (_plain(each, headed=several) for each in answers)))
            self._handle.update({"text/html": f'<div class="{NO_MATHJAX}">{html}</div>', "text/plain": plain}, raw=True)
        ended = time.monotonic()
        self._next_drawing = ended + max(FRAME_INTERVAL_S, PAUSE_PER_DRAWING_TIME * (ended - began))

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
        """Empty the live output."""
        if self._handle is not None:
            self._handle.update({}, raw=True)
            if self._figures_handle is not None:
                self._figures_handle.update({}, raw=True)
        elif self._printed:
            sys.stdout.write(self._terminal.end() + "\n")

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


def _newest(figures: Sequence[Attachment]) -> list[Attachment]:
    """Return figures of which only the newest have their content, as much as one output holds."""
    left, found = MAX_SHOWN_BYTES, []
    for each in reversed(figures):
        left -= each.size
        found.append(each if left >= 0 else each.without_content())
    return found[::-1]


def _last_part(text: str) -> str:
    left_out = len(text) - MAX_LIVE_CHARS
    return text if left_out <= 0 else f"… {left_out:,} characters before\n{text[-MAX_LIVE_CHARS:]}"


def _html(answer: LiveAnswer, *, headed: bool) -> str:
    head = f"<div><strong>{escape(answer.name)}</strong></div>" if headed else ""
    bar = f" <progress value={answer.fraction:.2f}></progress>" if answer.fraction is not None else ""
    status = f"<div {SMALL_GREY}>{escape(answer.status)}{bar}</div>" if answer.status else ""
    return f'{head}<div style="white-space:pre-wrap">{escape(answer.text.strip())}</div>{status}'


def _plain(answer: LiveAnswer, *, headed: bool) -> str:
    text = answer.text.strip() or answer.status
    return terminal_text(f"{answer.name}:\n{text}" if headed and text else text)
