"""python -m piano_jupyter "…" answers in the terminal; --lab opens JupyterLab on the first notebook.

What is written goes through `say`, `tell` or a `TerminalStream`: no answer, note or error steers the terminal.
"""

import argparse
import asyncio
import importlib.util
import io
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from piano_jupyter import events
from piano_jupyter.approval_prompt import TOO_LATE, Answer, answer_of, choices, put
from piano_jupyter.errors import PianoError
from piano_jupyter.piano import Piano
from piano_jupyter.progress import ProgressTracker
from piano_jupyter.records import Job
from piano_jupyter.safe_files import write_file
from piano_jupyter.shipped import shipped
from piano_jupyter.text.invisible import TerminalStream, terminal_text, to_the_letter

FIRST_NOTEBOOK = "01_first_chat.ipynb"
NEXT_STEP = "next: python -m piano_jupyter --lab   opens a notebook (pip install 'piano_jupyter[lab]')"


def main() -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m piano_jupyter", description="Ask an agent, or open JupyterLab.")
    parser.add_argument("text", nargs="*", help="what you say; '-' reads it from standard input")
    parser.add_argument("--agent", help="who answers (default: the first agent)")
    parser.add_argument("--thread", help="the thread to go on in, by title or id (default: a new one)")
    parser.add_argument("--trust", action="store_true", help="say that the database of this folder is yours, and go on")
    parser.add_argument("--lab", action="store_true", help="open JupyterLab on the first notebook")
    options = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what a terminal cannot show is shown as its number
    text = " ".join(options.text)
    if options.lab:
        return open_lab()
    if text == "-":
        text = sys.stdin.read()
    if not text.strip():
        parser.print_help()
        return 2
    try:
        asyncio.run(answer(text, options.agent, options.thread, trust=options.trust))
    except PianoError as error:
        tell(str(error))
        return 1
    except KeyboardInterrupt:
        tell("\ninterrupted; the job was cancelled")
        return 130
    tell(f"\n{NEXT_STEP}")
    return 0


def say(text: str) -> None:
    """Write a text to standard output."""
    print(terminal_text(text))


def tell(text: str, end: str = "\n") -> None:
    """Write what is said beside the answers, to standard error."""
    print(terminal_text(text), end=end, file=sys.stderr, flush=True)


async def answer(text: str, agent: str | None, thread: str | None, *, trust: bool) -> None:
    """Ask, and write what is answered to standard output. Raises PianoError."""
    async with Piano(resumes=False) as piano:  # what a notebook left is for one: this ends with its own answer
        if trust and not piano.trusted:
            tell(await piano.trust())
        for notice in piano.notices():
            tell(notice.replace("%piano trust", "--trust"))
        heard = piano.events()
        jobs = await piano.send_all(text, agents=[agent] if agent is not None else [], thread=thread)
        try:
            await follow(piano, heard, jobs)
        except asyncio.CancelledError:
            for job in jobs:
                await asyncio.shield(piano.cancel(job))
            raise
        finally:
            await heard.aclose()


async def follow(piano: Piano, heard: AsyncIterable[events.Event], jobs: list[Job]) -> None:  # noqa: C901  One case an event.
    """Write one answer as it comes, several whole, each with its agent's name.

    Raises PianoError with the first reason, once nothing more comes.
    """
    following = ProgressTracker(jobs, {each.id: each.name for each in await piano.agents()})
    streamed = jobs[0].id if len(jobs) == 1 else None
    loading, writing, written = StderrProgress(), None, TerminalStream()
    async for event in heard:
        progress = following.take(event)
        match event:
            case events.ModelLoading(note=note, fraction=fraction):
                loading.show(note, fraction)
            case events.ApprovalRequested():  # of another job too: it stands in the way
                await decide(piano, event, await asked(event))
            case _ if progress is None:
                continue
            case events.MessageDelta(message_id=message_id, text=piece) if event.job_id == streamed and piece:
                if writing not in {None, message_id}:
                    print(written.end())
                    written = TerminalStream()
                writing = message_id
                print(written.feed(piece), end="", flush=True)
            case events.HistoryTrimmed() | events.ToolWaiting():
                tell(to_the_letter(f"[{progress.note}]"))
            case events.ToolReturned(call=call):
                tell(to_the_letter(f"[{call.name}: {call.outcome}]"))
            case events.ToolFlagged(call=call):
                tell(to_the_letter(f"[{progress.flags[-1]}]"))
            case events.JobDone(message=message):
                say(written.end() if event.job_id == streamed else f"{progress.name}: {message.content}\n")
        if following.over:
            break
    for each in following.all:
        if each.error is not None:
            raise each.error


async def decide(piano: Piano, request: events.ApprovalRequested, answer: Answer) -> None:
    """Pass on what was answered, and say what came of it if that is not plain."""
    if not await (piano.deny(request) if answer == "no" else piano.approve(request, always=answer == "always")):
        tell(f"the call of {request.call.name} {TOO_LATE}")
    elif answer == "always":
        tell(f"from now on, as long as this runs: {to_the_letter(request.always)}")


async def asked(request: events.ApprovalRequested) -> Answer:
    """Ask on the terminal whether a tool call may run; without a terminal the answer is no, and that is told."""
    tell(put(request))
    if not sys.stdin.isatty():
        tell("No: nobody is at a keyboard here who could be asked.")
        return "no"
    tell(choices(request), end="")
    typed: Future[str] = Future()
    typed.set_running_or_notify_cancel()  # who waits may give up, reading goes on
    read = threading.Thread(target=lambda: typed.set_result(sys.stdin.readline()), daemon=True)
    read.start()  # a daemon, so that Ctrl-C need not wait for Enter
    return answer_of(await asyncio.wrap_future(typed), request)


class StderrProgress:
    """Says on standard error what takes a moment; a fetch has a bar."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._said = ""

    def show(self, note: str, fraction: float | None) -> None:
        """Show a note, once, or how far a fetch is."""
        note = terminal_text(note)
        if fraction is not None and fraction < 1:
            from tqdm import tqdm  # noqa: PLC0415  Comes with [local], and only [local] fetches.

            self._said = note
            self._bar = self._bar or tqdm(total=100, desc=note, unit="%", bar_format="{desc} |{bar}| {n:.0f}%")
            self._bar.update(fraction * 100 - self._bar.n)
        elif self._bar is not None:
            self._bar.update(100 - self._bar.n)
            self._bar.close()
            self._bar = None
        if self._bar is None and note != self._said:
            self._said = note
            tell(note)


def open_lab() -> int:
    """Open JupyterLab on the first notebook, copied here if it is not here."""
    if importlib.util.find_spec("jupyterlab") is None:
        tell("JupyterLab is not installed: pip install 'piano_jupyter[lab]'")
        return 1
    here = Path("notebooks")
    try:
        if not (here / FIRST_NOTEBOOK).exists():
            for each in shipped("notebooks").glob("01_*"):
                write_file(here / each.name, each.read_bytes(), workspace=Path.cwd(), replace=True, make_folders=True)
    except (OSError, PianoError) as error:
        tell(f"the first notebook cannot be put into {here.absolute()}: {error}")
        return 1
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    command = [sys.executable, "-m", "jupyterlab", *root, str(here / FIRST_NOTEBOOK)]
    return subprocess.call(command)  # noqa: S603  It is our own.


if __name__ == "__main__":
    sys.exit(main())
