"""How far a batch is: as a line of text and as a bar. Pure."""

from html import escape
from math import floor, log10
from typing import TYPE_CHECKING

from piano_jupyter.batch_records import BatchStatus
from piano_jupyter.jupyter.render.tables import NO_MATHJAX, SMALL_GREY, counted
from piano_jupyter.text.quoting import quoted

if TYPE_CHECKING:
    from piano_jupyter.events import BatchProgress

ROWS_TO_TRY = 20  # a table with more of them may be tried with these first


def plan_line(progress: "BatchProgress", *, has_limit: bool = False) -> str:
    """Return what is about to be asked: how many rows, how many are known, about how many tokens."""
    left = progress.rows - progress.known
    if progress.read is not None:
        return counted(progress.rows, "row")
    if not left:
        return f"{counted(progress.rows, 'row')}, all known"
    known = f", {progress.known:,} of them known" if progress.known else ""
    if not progress.tokens:  # of a Daft frame, which holds its rows elsewhere
        return f"{counted(progress.rows, 'row')}{known}"
    tokens = counted(rounded(progress.tokens), "token")
    trying = f"; --limit {ROWS_TO_TRY} tries it" if left > ROWS_TO_TRY and not has_limit else ""
    return f"{counted(progress.rows, 'row')}{known}, about {tokens} to read{trying}"


def progress_line(progress: "BatchProgress") -> str:
    """Return how far a batch is, with its speed and how long it still takes."""
    rows, done = counted(progress.rows, "row"), progress.known + progress.done + progress.failed
    parts = [f"{done:,} of {rows}" if progress.read is None else f"reading {rows}: {progress.read:,} read"]
    if progress.rows_per_s:
        parts.append(f"{rate(progress.rows_per_s)} rows/s")
    if progress.tokens_per_s:
        parts.append(f"{rate(progress.tokens_per_s)} tokens/s")
    if left := time_left(progress.seconds_left):
        parts.append(left)
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    if progress.reason:
        parts.append(progress.reason)
    return " · ".join(parts)


def summary_line(progress: "BatchProgress", failed: int) -> str:
    """Return what a batch has come to, without times; `failed` is how many of its rows have an error that is kept."""
    asked = progress.done + progress.failed
    same = progress.rows - progress.known - asked
    parts = {
        "known": progress.known,
        "answered": progress.done,
        "failed": progress.failed,
        "the same as others": same if progress.status is BatchStatus.DONE else 0,
    }
    told = ", ".join([counted(progress.rows, "row"), *(f"{count:,} {what}" for what, count in parts.items() if count)])
    if failed:
        how = f"; after %piano batch {quoted(progress.name)} --retry, the next run asks those again"
    elif progress.failed:  # no server answered, which says nothing about the rows: these errors are not kept
        how = "; the next run asks those again"
    else:
        how = ""
    cut = f"; {counted(progress.cut, 'answer')} cut off at the limit of the length" if progress.cut else ""
    return f"{told}{'' if asked else '; nothing was asked'}{cut}{how}"


def interrupted_line(progress: "BatchProgress | None") -> str:
    """Return what is left of a batch that was interrupted, and how to go on."""
    if progress is None or progress.read is not None:
        return "interrupted; nothing was asked"
    answered = f"{progress.known + progress.done:,} of {counted(progress.rows, 'row')}"
    return f"interrupted; the answers to {answered} are kept: run this again to go on"


def fraction(progress: "BatchProgress") -> float:
    """Return how much of a batch is done, from 0 to 1."""
    return min(1.0, (progress.known + progress.done + progress.failed) / progress.rows) if progress.rows else 0.0


def bar_html(progress: "BatchProgress", above: str, below: str) -> str:
    """Return a bar with a line of text above it and one below it."""
    bar = f'<progress value="{fraction(progress):.4f}" max="1" style="width:100%"></progress>'
    lines = [f"<div {SMALL_GREY}>{escape(each)}</div>" for each in (above, below)]
    return f'<div class="{NO_MATHJAX}">{lines[0]}{bar}{lines[1]}</div>'


def rounded(number: float) -> int:
    """Return a number with two digits that count."""
    return int(round(number, 1 - floor(log10(number)))) if number >= 1 else 0


def rate(number: float) -> str:
    """Return a speed with as many digits as it needs: 0.25, 4.1, 1,250."""
    return f"{number:,.0f}" if number >= 20 else f"{number:.1f}" if number >= 1 else f"{number:.2f}"


def time_left(seconds: float | None) -> str:
    """Return how long something still takes; "" if that is unknown, or nothing is left."""
    if not seconds:
        return ""
    if seconds < 60:
        return "less than a minute left"
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if minutes < 90:
        return f"about {minutes} min left"
    return f"about {hours} hours left" if hours < 48 else f"about {round(hours / 24)} days left"
