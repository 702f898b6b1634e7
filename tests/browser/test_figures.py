"""Figures in a real JupyterLab: what an agent draws, and what is sent to a model, as people see it."""

from playwright.sync_api import expect

from piano_jupyter.testing import tool_call

LOAD = """%load_ext piano_jupyter
import matplotlib.pyplot as plt
from IPython.display import HTML, SVG, display
%piano agent Assistant --tools run_python"""
DRAW = "plt.plot([1, 2, 3])\nplt.show()"
SCRIPT = "window.pwned = 1"
HOSTILE = f"""
display(SVG("<svg xmlns='http://www.w3.org/2000/svg' width='40' height='20' onload='{SCRIPT}'><script>{SCRIPT}</script>\
<rect width='40' height='20'/></svg>"))
display(HTML("<table><tr><td onclick='{SCRIPT}'>tea<script>{SCRIPT}</script><img src=x onerror='{SCRIPT}'>\
</td></tr></table>"))
"""
NATURAL_WIDTH = "image => image.complete && image.naturalWidth"


def panel_asks(nb, text):
    box = nb.panel.get_by_role("textbox", name="Message")
    box.fill(text)
    box.press("Enter")


def test_a_plot_of_an_agent_is_seen_in_the_panel_and_in_one_that_is_opened_later(notebook, stub_model):
    stub_model.says(tool_call("run_python", code=DRAW), "There it is.")
    nb = notebook([LOAD, "%piano panel"])
    nb.run(0)
    nb.run(1)
    panel_asks(nb, "plot it")
    nb.panel.get_by_role("button", name="Approve").click()

    image = nb.panel.locator(".piano-shown img")
    expect(image).to_be_visible()
    nb.until(lambda: image.evaluate(NATURAL_WIDTH) > 300)
    expect(nb.panel.locator(".piano-text").last).to_contain_text("There it is.")
    nb.run(1)
    again = nb.panel.locator(".piano-shown img")
    nb.until(lambda: again.evaluate(NATURAL_WIDTH) > 300)
    nb.shot("figure")


def test_a_plot_and_a_sent_image_are_seen_in_cells(notebook, stub_model):
    stub_model.says("It rises.")
    nb = notebook(
        [
            LOAD,
            "figure, axes = plt.subplots()\naxes.plot([1, 2])\nplt.close(figure)",
            "answer = await piano.ask('look', attachments=[figure])\n%piano history",
        ]
    )
    for index in range(3):
        nb.run(index)

    image = nb.cell(2).locator("img")
    nb.until(lambda: image.evaluate(NATURAL_WIDTH) > 300)


def test_m1_l2_scripts_in_what_an_agent_displays_do_not_run_in_the_page(notebook, stub_model):
    stub_model.says(tool_call("run_python", code=HOSTILE), "Done.")
    nb = notebook([LOAD, "%piano panel", "%piano history"])
    nb.run(0)
    nb.run(1)
    panel_asks(nb, "show it")
    nb.panel.get_by_role("button", name="Approve").click()
    expect(nb.panel.locator(".piano-text").last).to_contain_text("Done.")

    picture = nb.panel.locator(".piano-shown img")
    nb.until(lambda: picture.evaluate(NATURAL_WIDTH) == 40)
    expect(nb.panel.locator(".piano-shown td")).to_have_text("tea")
    nb.panel.locator(".piano-shown td").click()
    nb.run(2)

    assert nb.page.evaluate("() => window.pwned") is None


def test_a_figure_is_named_in_the_text_sent_and_drawn_again_by_an_edit_in_the_panel(notebook, stub_model):
    stub_model.says("It rises.", "It falls.")
    draw = "figure, axes = plt.subplots(figsize=(4, 2.5))\naxes.plot({})\nplt.close(figure)"
    nb = notebook([LOAD, draw.format([1, 2]), "%piano panel", draw.format([2, 1])])
    for index in range(3):
        nb.run(index)
    panel_asks(nb, "What is in {{figure}}?")

    image = nb.panel.locator(".piano-attachments img")
    nb.until(lambda: image.evaluate(NATURAL_WIDTH) > 300)
    expect(nb.panel.locator(".piano-text").last).to_contain_text("It rises.")
    expect(nb.panel.locator(".piano-entry").first).to_contain_text("What is in figure · ")
    before = image.get_attribute("src")
    assert before in repr(stub_model.requests[-1]["messages"][-1]["content"])
    nb.shot("named_figure")

    nb.run(3)
    nb.panel.locator(".piano-entry").first.hover()
    nb.panel.get_by_role("button", name="Edit").first.click()
    expect(nb.panel.get_by_role("textbox", name="Message")).to_have_value("What is in {{figure}}?")
    nb.panel.get_by_role("textbox", name="Message").press("Enter")
    expect(nb.panel.locator(".piano-text").last).to_contain_text("It falls.")
    expect(nb.panel.locator(".piano-attachments img")).to_have_count(1)
    after = nb.panel.locator(".piano-attachments img").get_attribute("src")
    sent = repr(stub_model.requests[-1]["messages"])
    assert after != before
    assert after in sent
    assert before not in sent
