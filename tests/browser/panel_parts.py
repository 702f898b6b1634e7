"""The parts of a chat panel that tests look at and use."""

import re

from playwright.sync_api import expect

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


def theme(nb, name):
    """Use the theme "Light" or "Dark"."""
    nb.page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', {theme})", f"JupyterLab {name}")
    expect(nb.page.locator(f"body[data-jp-theme-light='{str(name == 'Light').lower()}']")).to_be_attached()
