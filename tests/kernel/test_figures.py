"""What an agent's code shows, in a real kernel: people see it in the cell and in the history, the model a line."""

import base64
import re

import pytest
from kernel.conftest import Kernel
from kernel.test_kernel_tools import RUNS, run_python
from pictures import image_url, png, png_that_claims

PICTURE = f"""
class Picture:
    def __init__(self, data): self.data = data
    def __repr__(self): return "<a picture>"
    def _repr_png_(self): return self.data
from IPython.display import HTML, SVG, clear_output, display
small = Picture({png(30, 20)!r})
dark = Picture({png(30, 20, shade=9)!r})
bomb = Picture({png_that_claims(60_000, 60_000)!r})
"""
PLOT = "import matplotlib.pyplot as plt\nplt.plot([1, 2, 3])"


@pytest.fixture(scope="module")
def drawing(tmp_path_factory, _stub_server):
    """One kernel, with some pictures."""
    home = tmp_path_factory.mktemp("drawing")
    (home / ".ipython").mkdir()
    kernel = Kernel(home, _stub_server, stdin=True).load()
    kernel.run(PICTURE)
    kernel.run(RUNS)
    yield kernel
    kernel.end()


def html(cell):
    """Return the HTML that a cell shows in the end."""
    return "".join(each.get("text/html", "") for each in cell.shown)


def images(cell):
    """Return how many images a cell shows, as data in the page."""
    return html(cell).count('<img src="data:image/')


@pytest.mark.parametrize(
    "code",
    ["small", "display(small)", "display(small); small", "display(dark); clear_output(); display(small)"],
)
def test_a_picture_is_shown_once_in_the_cell_and_in_the_history(drawing, stub_model, code):
    cell, told = run_python(drawing, stub_model, code)
    history = drawing.run("%piano history --last 2")

    assert images(cell) == images(history) == 1
    assert base64.b64encode(png(30, 20)).decode() in html(cell)
    assert "[shown to the user: image, 30 × 20]" in told
    assert "<a picture>" in told


def test_a_picture_is_shown_while_the_answer_is_still_written_and_once_in_the_end(drawing, stub_model):
    cell, _ = run_python(drawing, stub_model, "small")

    live = [at for at, (kind, data) in enumerate(cell.outputs) if "<img" in str(data) and kind.startswith("update")]
    final = [at for at, (kind, data) in enumerate(cell.outputs) if "<img" in str(data) and kind == "display_data"]
    emptied = [at for at, (kind, data) in enumerate(cell.outputs) if kind == "update_display_data" and not data]
    assert (len(live), len(final)) == (1, 1)
    assert live[0] < final[0] < min(emptied), "the cell never gets shorter"
    assert len(emptied) == 2


def test_figures_of_matplotlib_are_shown_even_if_the_code_leaves_them_open(drawing, stub_model):
    shown, told_shown = run_python(drawing, stub_model, f"{PLOT}\nplt.show()")
    left, told_left = run_python(drawing, stub_model, PLOT)
    failed, told_failed = run_python(drawing, stub_model, f"{PLOT}\nplt.show()\n1/0")

    assert (images(shown), images(left), images(failed)) == (1, 1, 1)
    assert "<Figure size" in told_shown
    assert "[shown to the user: image, " in told_left
    assert "ZeroDivisionError" in told_failed
    assert drawing.run("plt.get_fignums()").text.splitlines()[-1] == "[]"


def test_a_frame_is_shown_as_a_table(drawing, stub_model):
    cell, told = run_python(drawing, stub_model, "import pandas as pd\npd.DataFrame({'price': [2.5, 3.25]})")

    assert "<td>3.25</td>" in html(cell)
    assert "3.25" in told
    assert "<td>" not in told


def test_m1_l2_scripts_in_an_svg_or_in_html_reach_no_page(drawing, stub_model):
    evil = "<svg onload='run()'><script>run()</script></svg>"
    code = f"display(SVG({evil!r})); display(HTML('<script>run()</script><table><td onclick=run()>x</td></table>'))"

    cell, _ = run_python(drawing, stub_model, code)

    assert html(cell).count('<img src="data:image/svg+xml;base64,') == 1
    assert "<td>x</td>" in html(cell)
    assert "onclick=run" not in html(cell).split("</details>")[-1]
    assert "<script" not in html(cell)


def test_m3_an_image_bomb_is_named_and_not_kept(drawing, stub_model):
    cell, told = run_python(drawing, stub_model, "bomb")

    assert images(cell) == 0
    assert "[a figure was not kept: the figure has 60,000 × 60,000 pixels" in told


def test_a_figure_of_a_cell_is_sent_as_an_image_and_shown_in_the_history(drawing, stub_model):
    stub_model.says("it rises")
    drawing.run(
        "import matplotlib.pyplot as plt\nfigure, axes = plt.subplots()\naxes.plot([1, 2, 3])\nplt.close(figure)"
    )

    cell = drawing.run("print((await piano.ask('What does it show?', attachments=[figure, small])).content)")
    history = drawing.run("%piano history --last 2")

    _, plot, picture = stub_model.requests[-1]["messages"][-1]["content"]
    assert cell.stream == "it rises\n"
    assert plot["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert picture["image_url"]["url"] == f"data:image/png;base64,{base64.b64encode(png(30, 20)).decode()}"
    assert images(history) == 2
    assert "[image, 30 × 20]" in history.text


def test_a_call_shows_at_most_twenty_figures_and_says_so(drawing, stub_model):
    code = "for shade in range(25): display(Picture(small.data[:-1] + bytes([shade])))"

    cell, told = run_python(drawing, stub_model, code)

    assert images(cell) == 20
    assert told.count("a call shows at most 20") == 5


IMAGES = f"""
import matplotlib.pyplot as plt
figure, axes = plt.subplots()
axes.plot([1, 2, 3])
plt.close(figure)
open("plot.png", "wb").write({png(30, 20)!r});
"""


def test_images_that_a_cell_names_arrive_byte_by_byte_and_are_shown_in_the_history(drawing, stub_model):
    drawing.run(IMAGES)

    cell = drawing.run('%%piano\nCompare {{figure}} with {{image("plot.png")}} and {{small}}')
    history = drawing.run("%piano history --last 2")

    text, *sent = stub_model.requests[-1]["messages"][-1]["content"]
    assert cell.status == "ok", cell.stream
    assert re.match(r"Compare \[figure, \d+ × \d+\] with \[plot\.png, 30 × 20\] and \[small, 30 × 20\]\n", text["text"])
    assert sent[0]["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert sent[1:] == [image_url(png(30, 20))] * 2
    assert images(history) == 3
    assert re.search(r"You: Compare figure · \d+ × \d+ with plot\.png · 30 × 20 and small · 30 × 20", history.text)


def test_a_function_asks_about_its_own_figure(drawing, stub_model):
    drawing.run(
        f"figure = 'of the notebook'\ndef ask(figure):\n    %piano ask What is {{{{figure}}}}?\nask({png(6, 6)!r});"
    )

    assert stub_model.requests[-1]["messages"][-1]["content"][1:] == [image_url(png(6, 6))]


def test_m5_code_of_an_agent_names_images_of_the_workspace_only(drawing, stub_model):
    drawing.run(f"import pathlib; pathlib.Path('../key.png').write_bytes({png(9, 9)!r})")
    code = "get_ipython().run_line_magic('piano', 'ask --no-wait {{image(\"../key.png\")}}')"

    _, told = run_python(drawing, stub_model, code)

    assert "outside of the workspace: agents attach files of the workspace only" in told
    assert image_url(png(9, 9)) not in [
        part for each in stub_model.requests[-1]["messages"] for part in each["content"] if isinstance(part, dict)
    ]
