"""Tells the front end which code it will put into a new cell, so that Piano's extension marks that cell as proposed."""

from comm import create_comm

TARGET = "piano-jupyter:proposed"


def announce_proposed_cell(code: str, replaces: str) -> None:
    """Announce a cell; `replaces` is the source of the one that it would take the place of, or "".

    A front end without the extension ignores it.
    """
    create_comm(target_name=TARGET, data={"code": code, "replaces": replaces}).close()
