"""The parts of a chat panel that tests look at and use."""

import re

LOAD = "%load_ext piano_jupyter"
OPEN = f"{LOAD}\n%piano panel"


def box(nb):
    return nb.panel.get_by_role("textbox", name="Message")


def ask(nb, text):
    box(nb).fill(text)
    box(nb).press("Enter")


def answers(nb, state="done"):
    return nb.panel.locator(f".piano-entry[data-state='{state}']")


def written(nb, state="done"):
    """The finished text of answers, without thoughts, calls and buttons around it."""
    return answers(nb, state).locator(".piano-done")


def button(nb, name):  # the name of some says what they are about, too
    return nb.panel.get_by_role("button", name=re.compile(f"^{re.escape(name)}(: |$)"))
