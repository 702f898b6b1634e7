"""%piano export, import, record, replay: threads and exchanges as files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.magic.command import Commands, command, named
from piano_jupyter.jupyter.magic.commands.history import no_thread
from piano_jupyter.jupyter.magic.options import quoted
from piano_jupyter.jupyter.magic.user_files import read_text, writable, write_text
from piano_jupyter.jupyter.render.tables import Note

if TYPE_CHECKING:
    from piano_jupyter.piano import Piano

FORMATS = {"md": "markdown", "ipynb": "notebook", "jsonl": "jsonl"}


class Files(Commands):
    """Sub-commands about files."""

    @command(
        "FILE",
        example="%piano export review.md --thread Sales",
        thread="THREAD",
        format="|".join(FORMATS),
        force="",
    )
    def export(self, text: str, thread: str | None = None, format: str = "", *, force: bool = False) -> Any:  # noqa: A002
        """Write a thread (the current one, if none is named) to a file: Markdown, a notebook, or JSON Lines.

        The file's ending says which: .md, .ipynb, or .jsonl in the form of the OpenAI chat API, which %piano import
        reads. A file that exists is only replaced with --force.
        """
        file = named("file", text, "%piano export review.md")
        ending = format or Path(file).suffix.removeprefix(".").lower()
        if ending not in FORMATS:
            raise PianoError(f"{file} does not end in .md, .ipynb or .jsonl; say what it is to be: --format md")

        async def read(piano: "Piano") -> tuple[str, str]:
            found = await piano.find_thread(thread) if thread is not None else piano.thread
            if found is None:
                raise PianoError(await no_thread(piano))
            return found.title, await piano.export(found, FORMATS[ending])  # type: ignore[arg-type]  # it is one of them

        title, written = self._call(read)
        write_text(file, written, self.session.config.workspace, force=force)
        return Note(f"{title!r} is in {file}")

    @command("FILE", example='%piano import talk.jsonl --title "An old talk"', title="TITLE")
    def import_(self, text: str, title: str | None = None) -> Any:
        """Make a thread of a file of JSON Lines in the form of the OpenAI chat API; it becomes the current one."""
        file = named("file", text, "%piano import talk.jsonl")
        written = read_text(file, self.session.config.workspace)
        try:
            thread = self._call(lambda piano: piano.import_thread(written, title))
        except PianoError as error:
            raise PianoError(f"{file}: {error}") from error
        return Note(f"current thread: {thread.title}")

    @command("[FILE]", example="%piano record talk.jsonl", stop="", force="")
    def record(self, text: str, *, stop: bool = False, force: bool = False) -> Any:
        """Keep each exchange with the model in FILE, in a fresh conversation; --stop goes back to your own threads.

        A file that exists is only replaced with --force.
        """
        if stop:
            return self._go_back()
        file = named("file", text, "%piano record talk.jsonl")
        otherwise = f"--force records it anew, %piano replay {quoted(file)} answers from it"
        path = writable(file, self.session.config.workspace, otherwise, force=force)
        self.session.loop.run(self.session.use_cassette(record=path))
        return Note(f"recording to {file}")

    @command("[FILE]", example="%piano replay talk.jsonl", stop="")
    def replay(self, text: str, *, stop: bool = False) -> Any:
        """Answer from FILE in a fresh conversation, else ask the model; --stop goes back to your own threads."""
        if stop:
            return self._go_back()
        file = named("file", text, "%piano replay talk.jsonl")
        self.session.loop.run(self.session.use_cassette(replay=Path(file).expanduser()))
        return Note(f"replaying {file}")

    def _go_back(self) -> Any:
        self.session.loop.run(self.session.go_back())
        return Note(f"back in {self.session.config.database}")
