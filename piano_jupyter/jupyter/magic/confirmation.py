"""A question before something that cannot be undone: asked at the prompt, or answered by --yes."""

from IPython.core.error import StdinNotImplementedError

from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.session import Session
from piano_jupyter.text.invisible import to_the_letter

YES = {"y", "yes"}
UNCHANGED = "nothing was changed"  #: what to say where the user does not want it


def confirmed(session: Session, question: str, *, yes: bool) -> bool:
    """Return whether the user wants it. Raises PianoError where nobody can be asked, and in code of an agent's."""
    session.kernel.check()
    if yes:
        return True
    try:
        return input(f"{to_the_letter(question)} [y]es / [N]o ").strip().lower() in YES
    except (StdinNotImplementedError, EOFError):
        raise PianoError(f"nobody can be asked here: {question} Say it again with --yes") from None
