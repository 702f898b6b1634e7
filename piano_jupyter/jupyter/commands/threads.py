"""%piano threads, thread, history: where the talk goes on, and what was said."""

from typing import TYPE_CHECKING, Any

from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.commands.command import Commands, command, number
from piano_jupyter.jupyter.display import Listing, Note, Transcript
from piano_jupyter.records import short

if TYPE_CHECKING:
    from piano_jupyter.piano import Piano


class Threads(Commands):
    """Sub-commands about threads."""

    @command("[--all]", all=False)
    def threads(self, _text: str, all: str | None = None) -> Any:  # noqa: A002  It is the option's name.
        """List the threads, newest first; --all also those that are archived."""
        threads = self._call(lambda piano: piano.threads(None if all is not None else "active"))
        return Listing(
            threads,
            "no threads yet; %%piano opens one",
            id=lambda thread: short(thread.id),
            title=lambda thread: thread.title,
            status=lambda thread: thread.status,
            opened=lambda thread: f"{thread.inserted_at:%Y-%m-%d %H:%M}",
        )

    @command("[NAME] [--new] [--rename TITLE] [--archive]", new=False, rename=True, archive=False)
    def thread(self, text: str, new: str | None = None, rename: str | None = None, archive: str | None = None) -> Any:
        """Go to a thread by its title or id, or open one with --new TITLE; alone it says which one is current."""

        async def go(piano: "Piano") -> str:
            if new is not None:
                await piano.open_thread(text or "Untitled")
            elif text:
                piano.thread = await piano.find_thread(text)
            if piano.thread is None:
                return "no thread yet; %%piano opens one"
            if rename is not None:
                await piano.rename_thread(piano.thread, rename)
            if archive is not None:
                await piano.archive_thread(piano.thread)
                return "archived; the next question opens a new thread"
            return f"current thread: {piano.thread.title} ({short(piano.thread.id)})"

        return Note(self._call(go))

    @command("[THREAD] [--last N]", last=True)
    def history(self, text: str, last: str | None = None) -> Any:
        """Show a thread (the current one, if none is named); --last N shows its end."""
        newest = number("--last", last)

        async def read(piano: "Piano") -> Transcript:
            thread = await piano.find_thread(text) if text else piano.thread
            if thread is None:
                raise PianoError("no thread yet; %%piano opens one")
            names = {agent.id: agent.name for agent in await piano.agents()}
            messages = await piano.messages(thread, newest)
            return Transcript(thread.title, messages, await piano.tool_calls(thread), names)

        return self._call(read)
