"""What the magics show, in the light and the dark theme."""

import re
import tempfile

import pytest
from browser.panel_parts import theme
from browser.scene import STATES, Scene
from browser.screenshots import README, take
from swap_servers import model_command

from piano_jupyter.runner.model.embedded.weights import SMOLLM2, cache_folder, fetch

READABLE = 4.0  # contrast of text; WCAG 2.2 asks for 4.5, JupyterLab's own quiet text has 4.6 on white and less on grey

# the text in a cell's outputs that stands out less than `least` from what is behind it, with its contrast
FAINT = """([index, least]) => {
    const linear = part => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    const parts = colour => {
        const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number);
        return colour.startsWith("color(srgb") ? [r * 255, g * 255, b * 255, a] : [r, g, b, a];
    };
    const over = ([r, g, b, a], below) => [r, g, b].map((part, i) => part * a + below[i] * (1 - a));
    const behind = node => {
        if (!node) return [255, 255, 255];
        const mine = parts(getComputedStyle(node).backgroundColor);
        return mine[3] === 1 ? mine.slice(0, 3) : over(mine, behind(node.parentElement));
    };
    const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const faint = [];
    const cell = document.querySelectorAll(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell")[index];
    const walker = document.createTreeWalker(cell.querySelector(".jp-Cell-outputArea"), NodeFilter.SHOW_TEXT);
    for (let node; (node = walker.nextNode()); ) {
        const holder = node.parentElement;
        if (!node.textContent.trim() || !holder.getClientRects().length || holder.closest(".jp-OutputPrompt")) continue;
        const back = behind(holder);
        const pair = [light(over(parts(getComputedStyle(holder).color), back)), light(back)].sort((a, b) => b - a);
        const contrast = (pair[0] + 0.05) / (pair[1] + 0.05);
        if (contrast < least) faint.push([node.textContent.trim().slice(0, 40), contrast]);
    }
    return faint;
}"""


@pytest.fixture
def swapping(start_swap):
    """A llama-swap in front of the embedded model and one more, neither of them loaded."""
    gguf = fetch(SMOLLM2, cache_folder(), lambda _line, _fraction: None)
    names = {"smollm2:135m": "small and quick", "smollm2:135m-twin": "the same again"}
    models = {
        name: {"cmd": model_command(gguf, name), "description": about, "aliases": [name.replace("smollm2:", "s")]}
        for name, about in names.items()
    }
    return start_swap("stand-in", models)


@pytest.fixture
def workspace():
    """A folder with a short name, for the pictures."""
    with tempfile.TemporaryDirectory(prefix="sales-") as folder:
        yield folder


def test_the_pictures_of_a_state_are_taken_in_each_shade_and_size(window, lab, stub_model, tmp_path):
    assert {state for state, _ in README.values()} <= STATES.keys()
    assert {of for _, of in STATES.values()} == {"page", "panel"}

    taken = take("cells", Scene(window, lab, stub_model), tmp_path)

    names = [f"cells-lab-{shade}-{size}" for shade in ("dark", "light") for size in ("wide", "narrow")]
    assert [file.stem for file in taken] == names
    assert all(file.stat().st_size > 10_000 for file in taken)


SET_UP = """
%load_ext piano_jupyter
%config PianoConfig.base_url = "{url}"
%config PianoConfig.default_model = "smollm2:135m"
%config PianoConfig.workspace = "{workspace}"
%config PianoConfig.database = ":memory:"
%piano agent ada --model smollm2:135m --system "You write short Python." --temperature 0
%piano agent bo --model smollm2:135m-twin --system "You write SQL." --temperature 0
"""
LOOKS = [
    "%piano models --load smollm2:135m",
    "%piano",
    "%%piano @ada @bo\nHow do I count words?",
    "%piano agents",
    "%piano history",
    "%piano stats",
    "%piano search count",
    "message = (await piano.messages(await piano.find_thread('How do I count words?')))[-1]\nmessage",
]
STREAMS = 3


@pytest.mark.parametrize("shade", ["Light", "Dark"])
def test_status_models_and_a_cell_that_streams_read_well(notebook, swapping, workspace, shade):
    nb = notebook([SET_UP.format(url=swapping.url, workspace=workspace).strip(), *LOOKS])
    nb.page.evaluate("() => jupyterapp.commands.execute('application:toggle-left-area')")
    theme(nb, shade)
    try:
        for index in range(STREAMS):
            nb.run(index)
        nb.run(STREAMS, wait=False)
        nb.until(lambda: "<pre" in str(nb.outputs(STREAMS)) or nb.has_ended(STREAMS), 60)
        nb.cell(1).evaluate("cell => cell.scrollIntoView()")
        nb.shot(f"models_{shade.lower()}")
        nb.wait_for(STREAMS)
        for index in range(STREAMS + 1, len(LOOKS) + 1):
            nb.run(index)
        nb.cell(len(LOOKS)).evaluate("cell => cell.scrollIntoView()")
        nb.shot(f"objects_{shade.lower()}")

        faint = [nb.page.evaluate(FAINT, [index, READABLE]) for index in range(1, len(LOOKS) + 1)]
    finally:
        theme(nb, "Light")
        nb.page.evaluate("() => jupyterapp.commands.execute('application:toggle-left-area')")

    assert faint == [[]] * len(LOOKS)
    assert re.search(r"smollm2:135m +loaded +8,192 tokens +(s135m +)?small and quick", nb.text(1))
    assert "smollm2:135m loaded" in nb.text(2)
    assert "bo · smollm2:135m-twin" in str(nb.outputs(len(LOOKS)))
