"""Output with carriage returns, by which progress bars overwrite their own line. Pure."""


def as_on_terminal(text: str) -> str:
    """Return output as a terminal shows it: of a line that was overwritten, only the last text."""
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")) if "\r" in text else text
