"""python -m piano_jupyter "…" answers in the terminal; --lab opens JupyterLab on the first notebook."""

import argparse
import asyncio
import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from piano_jupyter.errors import PianoError
from piano_jupyter.events import (
    ApprovalRequested,
    JobCancelled,
    JobDone,
    JobFailed,
    MessageDelta,
    ModelLoading,
    ToolReturned,
)
from piano_jupyter.piano import Piano
from piano_jupyter.shipped import shipped

FIRST_NOTEBOOK = "01_first_chat.ipynb"
NEXT_STEP = "next: python -m piano_jupyter --lab   opens a notebook (pip install 'piano_jupyter[lab]')"


def main() -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m piano_jupyter", description="Ask an agent, or open JupyterLab.")
    parser.add_argument("text", nargs="*", help="what you say; '-' reads it from standard input")
    parser.add_argument("--agent", help="who answers (default: the first agent)")
    parser.add_argument("--thread", help="the thread to go on in, by title or id (default: a new one)")
    parser.add_argument("--lab", action="store_true", help="open JupyterLab on the first notebook")
    options = parser.parse_args()
    text = " ".join(options.text)
    if options.lab:
        return open_lab()
    if text == "-":
        text = sys.stdin.read()
    if not text.strip():
        parser.print_help()
        return 2
    try:
        asyncio.run(answer(text, options.agent, options.thread))
    except PianoError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the job was cancelled", file=sys.stderr)
        return 130
    print(f"\n{NEXT_STEP}", file=sys.stderr)
    return 0


async def answer(text: str, agent: str | None, thread: str | None) -> None:
    """Ask, and write the answer to standard output while it comes. Raises PianoError."""
    progress = Progress()
    async with Piano() as piano:
        events = piano.events()
        job = await piano.send(text, agent=agent, thread=thread)
        try:
            async for event in events:
                match event:  # jobs that a dead kernel left go on here too: only the own one is shown
                    case ModelLoading(note=note, fraction=fraction):
                        progress.show(note, fraction)
                    case MessageDelta(job_id=job.id, text=piece):
                        print(piece, end="", flush=True)
                    case ToolReturned(job_id=job.id, call=call):
                        print(f"[{call.name}: {call.status}]", file=sys.stderr)
                    case ApprovalRequested(call=call):
                        await (piano.approve if await allowed(event) else piano.deny)(call)
                    case JobDone() if event.job.id == job.id:
                        print()
                        return
                    case JobFailed(reason=reason, error=error) if event.job.id == job.id:
                        raise error or PianoError(reason)
                    case JobCancelled() if event.job.id == job.id:
                        raise PianoError("the job was cancelled")
        except asyncio.CancelledError:
            await asyncio.shield(piano.cancel(job))
            raise
        finally:
            await events.aclose()


async def allowed(request: ApprovalRequested) -> bool:
    """Ask on the terminal whether a tool call may run; without a terminal the answer is no."""
    if not sys.stdin.isatty():
        return False
    arguments = ", ".join(f"{name}={value!r}" for name, value in request.call.arguments.items())
    print(
        f"{request.question}:\n  {request.call.name}({arguments})\nAllow it? [y/N] ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    loop = asyncio.get_running_loop()
    typed: asyncio.Future[str] = loop.create_future()

    def answer_with(line: str) -> None:
        if not typed.done():
            typed.set_result(line)

    def read() -> None:
        line = sys.stdin.readline()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(answer_with, line)

    threading.Thread(target=read, daemon=True).start()  # a daemon, so that Ctrl-C need not wait for Enter
    return (await typed).strip().lower() in {"y", "yes"}


class Progress:
    """Says on standard error what takes a moment; a fetch has a bar."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._said = ""

    def show(self, note: str, fraction: float | None) -> None:
        """Show a note, once, or how far a fetch is."""
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
            print(note, file=sys.stderr)


def open_lab() -> int:
    """Open JupyterLab on the first notebook, copied here if it is not here."""
    if importlib.util.find_spec("jupyterlab") is None:
        print("JupyterLab is not installed: pip install 'piano_jupyter[lab]'", file=sys.stderr)
        return 1
    here = Path("notebooks")
    try:
        if not (here / FIRST_NOTEBOOK).exists():
            here.mkdir(exist_ok=True)
            for each in shipped("notebooks").glob("01_*"):
                shutil.copy(each, here / each.name)
    except OSError as error:
        print(f"the first notebook cannot be put into {here.absolute()}: {error.strerror}", file=sys.stderr)
        return 1
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    command = [sys.executable, "-m", "jupyterlab", *root, str(here / FIRST_NOTEBOOK)]
    return subprocess.call(command)  # noqa: S603  It is our own.


if __name__ == "__main__":
    sys.exit(main())
