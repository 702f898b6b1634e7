"""python -m piano_jupyter "…" answers in the terminal; --lab opens JupyterLab on the first notebook.

All output goes through `print_answer`, `print_note` or a `TerminalStream`, so that no answer, note or error can control
the terminal.
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
from piano_jupyter.approval_prompt import ALREADY_ANSWERED, Answer, choices, parse_answer, prompt_text
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
    parser.add_argument("text", nargs="*", help="your question; '-' reads it from standard input")
    parser.add_argument("--agent", help="who answers (default: the first agent)")
    parser.add_argument("--thread", help="the thread to continue, by title or id (default: a new one)")
    parser.add_argument("--trust", action="store_true", help="trust the database of this folder, and continue")
    parser.add_argument("--lab", action="store_true", help="open JupyterLab on the first notebook")
    options = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # characters that the terminal lacks are printed as numbers
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
        print_note(str(error))
        return 1
    except KeyboardInterrupt:
        print_note("\ninterrupted; the job was cancelled")
        return 130
    print_note(f"\n{NEXT_STEP}")
    return 0


def print_answer(text: str) -> None:
    """Print an answer to standard output."""
    print(terminal_text(text))


def print_note(text: str, end: str = "\n") -> None:
    """Print a note or an error to standard error."""
    print(terminal_text(text), end=end, file=sys.stderr, flush=True)


async def answer(text: str, agent: str | None, thread: str | None, *, trust: bool) -> None:
    """Ask, and print the answers to standard output. Raises PianoError."""
    async with Piano(resumes=False) as piano:  # a notebook resumes its own jobs; this ends with its answer
        if trust and not piano.trusted:
            print_note(await piano.trust())
        for notice in piano.notices():
            print_note(notice.replace("%piano trust", "--trust"))
        stream = piano.events()
        jobs = await piano.send_all(text, agents=[agent] if agent is not None else [], thread=thread)
        try:
            await follow(piano, stream, jobs)
        except asyncio.CancelledError:
            for job in jobs:
                await asyncio.shield(piano.cancel(job))
            raise
        finally:
            await stream.aclose()


async def follow(piano: Piano, stream: AsyncIterable[events.Event], jobs: list[Job]) -> None:  # noqa: C901  One case per event.
    """Print a single answer while it is written, several answers when each is complete, with the agent's name.

    Raises PianoError with the first failure, after all jobs have ended.
    """
    following = ProgressTracker(jobs, {each.id: each.name for each in await piano.agents(deleted=True)})
    streamed = jobs[0].id if len(jobs) == 1 else None
    loading, writing, written = StderrProgress(), None, TerminalStream()
    async for event in stream:
        progress = following.apply(event)
        match event:
            case events.ModelLoading(note=note, fraction=fraction):
                loading.show(note, fraction)
            case events.ApprovalRequested() if event in await piano.approvals(here=True):
                # also of another job of this process, which may block this one
                await decide(piano, event, await ask_approval(event))
            case _ if progress is None:
                continue
            case events.MessageDelta(message_id=message_id, text=piece) if event.job_id == streamed and piece:
                if writing not in {None, message_id}:
                    print(written.end())
                    written = TerminalStream()
                writing = message_id
                print(written.feed(piece), end="", flush=True)
            case events.HistoryTrimmed() | events.ToolWaiting():
                print_note(to_the_letter(f"[{progress.note}]"))
            case events.ToolReturned(call=call):
                print_note(to_the_letter(f"[{call.name}: {call.outcome}]"))
            case events.ToolFlagged(call=call):
                print_note(to_the_letter(f"[{progress.flags[-1]}]"))
            case events.JobDone(message=message):
                print_answer(written.end() if event.job_id == streamed else f"{progress.name}: {message.content}\n")
        if following.has_ended:
            break
    for each in following.all:
        if each.error is not None:
            raise each.error


async def decide(piano: Piano, request: events.ApprovalRequested, answer: Answer) -> None:
    """Approve or deny a tool call, and print the outcome unless it is obvious."""
    if not await (piano.deny(request) if answer == "no" else piano.approve(request, always=answer == "always")):
        print_note(f"the call of {request.call.name} {ALREADY_ANSWERED}")
    elif answer == "always":
        print_note(f"from now on, as long as this runs: {to_the_letter(request.always)}")


async def ask_approval(request: events.ApprovalRequested) -> Answer:
    """Ask in the terminal whether a tool call may run; without a terminal, print that the answer is no."""
    print_note(prompt_text(request))
    if not sys.stdin.isatty():
        print_note("no: there is no terminal to ask in")
        return "no"
    print_note(choices(request), end="")
    typed: Future[str] = Future()
    typed.set_running_or_notify_cancel()  # whoever waits may give up; reading cannot be stopped
    read = threading.Thread(target=lambda: typed.set_result(sys.stdin.readline()), daemon=True)
    read.start()  # a daemon, so that Ctrl-C need not wait for Enter
    return parse_answer(await asyncio.wrap_future(typed), request)


class StderrProgress:
    """Shows on standard error what is being waited for; a download gets a progress bar."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._last_note = ""

    def show(self, note: str, fraction: float | None) -> None:
        """Print a note once, or update the progress bar."""
        note = terminal_text(note)
        if fraction is not None and fraction < 1:
            from tqdm import tqdm  # noqa: PLC0415  Comes with [local], and only [local] downloads.

            self._last_note = note
            self._bar = self._bar or tqdm(total=100, desc=note, unit="%", bar_format="{desc} |{bar}| {n:.0f}%")
            self._bar.update(fraction * 100 - self._bar.n)
        elif self._bar is not None:
            self._bar.update(100 - self._bar.n)
            self._bar.close()
            self._bar = None
        if self._bar is None and note != self._last_note:
            self._last_note = note
            print_note(note)


def open_lab() -> int:
    """Open JupyterLab on the first notebook; copies it here if it is missing."""
    if importlib.util.find_spec("jupyterlab") is None:
        print_note("JupyterLab is not installed: pip install 'piano_jupyter[lab]'")
        return 1
    here = Path("notebooks")
    try:
        if not (here / FIRST_NOTEBOOK).exists():
            for each in shipped("notebooks").glob("01_*"):
                write_file(here / each.name, each.read_bytes(), workspace=Path.cwd(), replace=True, make_folders=True)
    except (OSError, PianoError) as error:
        print_note(f"the first notebook cannot be copied to {here.absolute()}: {error}")
        return 1
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    command = [sys.executable, "-m", "jupyterlab", *root, str(here / FIRST_NOTEBOOK)]
    return subprocess.call(command)  # noqa: S603  Our own command.


if __name__ == "__main__":
    sys.exit(main())
