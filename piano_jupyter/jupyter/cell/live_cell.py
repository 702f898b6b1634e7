"""LiveCell: what stands below a cell while it waits, in a notebook's output or straight on a terminal."""

import sys
import time
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from IPython.display import display

from piano_jupyter.jupyter.render.tables import NO_MATHJAX, SMALL_GREY
from piano_jupyter.jupyter.render.transcript import call_line
from piano_jupyter.progress import CallProgress, JobProgress, ProgressTracker
from piano_jupyter.records import CallStatus
from piano_jupyter.text.invisible import TerminalStream, terminal_text, to_the_letter

FRAME_INTERVAL_S = 0.05  # seconds between two updates of the cell, at least
MAX_LIVE_CHARS = 20_000  # characters of an answer that a notebook shows while it is written: its end
PAUSE_PER_DRAWING_TIME = 20  # an update may take one part in so many of the time: a long answer is drawn less often


class LiveAnswer(NamedTuple):
    """One answer while it is written."""

    name: str
    text: str = ""
    status: str = ""  #: what is going on, where no text comes
    fraction: float | None = None  #: how far that is, for a bar
    over: bool = False


def live_answers(following: ProgressTracker) -> list[LiveAnswer]:
    """Return how all the jobs look while the cell waits."""
    said = {"thinking": "thinking", "cancelled": "cancelled"}
    if len(following.asked) > 1:
        said["queued"] = "waiting for its turn"
    return [
        LiveAnswer(each.name, _text_so_far(each), each.note or said.get(each.status, ""), each.fraction, each.over)
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
    """Shows answers while they are written. The live output ends empty: what is final is shown by itself."""

    def __init__(self, *, in_notebook: bool) -> None:
        self._handle = display({}, raw=True, display_id=True) if in_notebook else None
        self._next = 0.0  # when the output may be drawn again
        self._drawn: list[LiveAnswer] = []
        self._printed = ""  # what a terminal has of the answer that it is at
        self._terminal = TerminalStream()  # through which it has it
        self._done = 0  # answers that a terminal has whole

    def rest(self) -> None:
        """Return when the output may be drawn again."""
        time.sleep(max(0.0, self._next - time.monotonic()))

    def draw(self, answers: Sequence[LiveAnswer]) -> None:
        """Bring what is shown up to date. Answers are headed by who gives them where they are several."""
        if answers == self._drawn or not (self._drawn or any(each.text or each.status for each in answers)):
            return
        begun = time.monotonic()
        self._drawn = list(answers)
        if self._handle is None:
            self._print(answers)
        else:
            several, answers = len(answers) > 1, [each._replace(text=_last_part(each.text)) for each in answers]
            html = "".join(_html(each, headed=several) for each in answers)
            plain = "\n\n".join(filter(None, (_plain(each, headed=several) for each in answers)))
            self._handle.update({"text/html": f'<div class="{NO_MATHJAX}">{html}</div>', "text/plain": plain}, raw=True)
        ended = time.monotonic()
        self._next = ended + max(FRAME_INTERVAL_S, PAUSE_PER_DRAWING_TIME * (ended - begun))

    def end(self) -> None:
        """Empty the live output."""
        if self._handle is not None:
            self._handle.update({}, raw=True)
        elif self._printed:
            sys.stdout.write(self._terminal.end() + "\n")

    def _print(self, answers: Sequence[LiveAnswer]) -> None:
        """Write what is new: one answer after the other, as a terminal cannot take back what it has shown.

        One that begins anew does so on a line of its own.
        """
        while self._done < len(answers):
            now = answers[self._done]
            if not self._printed and len(answers) > 1 and (now.text or now.over):
                sys.stdout.write(terminal_text(f"{now.name}:\n"))
            if not now.text.startswith(self._printed):
                sys.stdout.write(self._terminal.end() + "\n")
                self._printed, self._terminal = "", TerminalStream()
            sys.stdout.write(self._terminal.feed(now.text[len(self._printed) :]))
            self._printed = now.text
            if not now.over or self._done == len(answers) - 1:
                break
            sys.stdout.write(self._terminal.end() + "\n")
            self._done, self._printed, self._terminal = self._done + 1, "", TerminalStream()
        sys.stdout.flush()


def _last_part(text: str) -> str:
    rest = len(text) - MAX_LIVE_CHARS
    return text if rest <= 0 else f"… {rest:,} characters before\n{text[-MAX_LIVE_CHARS:]}"


def _html(answer: LiveAnswer, *, headed: bool) -> str:
    head = f"<div><strong>{escape(answer.name)}</strong></div>" if headed else ""
    bar = f" <progress value={answer.fraction:.2f}></progress>" if answer.fraction is not None else ""
    status = f"<div {SMALL_GREY}>{escape(answer.status)}{bar}</div>" if answer.status else ""
    return f'{head}<div style="white-space:pre-wrap">{escape(answer.text.strip())}</div>{status}'


def _plain(answer: LiveAnswer, *, headed: bool) -> str:
    text = answer.text.strip() or answer.status
    return terminal_text(f"{answer.name}:\n{text}" if headed and text else text)
