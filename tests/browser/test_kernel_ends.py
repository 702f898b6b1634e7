"""What becomes of a chat panel when its kernel is restarted or shut down, and of what is written in it."""

from browser.panel_parts import LOAD, OPEN, answers, ask, box, button, written
from browser.test_panel_compose import PASTE, in_base64
from pictures import png
from playwright.sync_api import expect

SOON = 30_000  # ms, for a kernel that starts
AT_ONCE = 2_000  # ms

CHANGE_KERNEL = "path => panels[path].sessionContext.changeKernel({name: 'python3'})"


def is_gone(nb):
    expect(nb.panel.locator(".piano-gone")).to_contain_text("The kernel has ended", timeout=AT_ONCE)


def is_back(nb, draft):
    expect(nb.panel.locator(".piano-gone")).to_be_hidden(timeout=SOON)
    expect(box(nb)).to_have_value(draft, timeout=SOON)


def test_when_the_kernel_ends_the_panel_says_so_and_one_click_brings_it_back_on_its_thread(notebook, stub_model):
    stub_model.says("first answer", "elsewhere", "second answer")
    nb = notebook([LOAD, "%piano panel", f"{LOAD}\n%piano thread --new Elsewhere\n%piano ask What else?", "1"])
    nb.run(0)
    nb.run(1)
    ask(nb, "one")
    nb.until(lambda: "first answer" in nb.text(1))
    box(nb).fill("two, perhaps")

    nb.page.evaluate(CHANGE_KERNEL, nb.path)
    is_gone(nb)
    nb.run(0)
    button(nb, "Reconnect").click()
    is_back(nb, "two, perhaps")
    expect(nb.cell(1)).not_to_contain_text("already loaded")
    nb.end_kernel()
    is_gone(nb)
    nb.shot(f"ended_{nb.front_end}")
    button(nb, "Reconnect").click()
    is_back(nb, "two, perhaps")
    nb.run(2)
    nb.save()
    nb.end_kernel()

    nb.reload()
    more = nb.cell(1).get_by_role("button", name="Continue this chat")
    expect(more).to_be_visible(timeout=AT_ONCE)
    nb.shot(f"saved_chat_{nb.front_end}")
    more.click()
    is_back(nb, "two, perhaps")
    expect(more).to_be_hidden()
    box(nb).press("Enter")
    expect(written(nb)).to_have_text(["first answer", "second answer"])
    nb.until(lambda: "second answer" in nb.text(1))
    nb.run(3)
    assert nb.outputs(3)[0]["execution_count"] == 1  # the click has no number in In[ ]


def test_each_panel_comes_back_on_its_own_thread_when_its_cell_runs_again_after_a_restart(notebook, stub_model):
    cells = [LOAD, "%piano panel Apples", "%piano panel", "%piano thread --new Pears"]
    nb = notebook([*cells, "%piano thread --new Apples", "%piano thread Pears\n%piano panel"])
    for index in (0, 3, 2, 4, 1):
        nb.run(index)
    panels = [nb.cell(index).locator(".piano-panel") for index in (1, 2)]
    for panel, text in zip(panels, ("an apple", "a pear"), strict=True):
        panel.get_by_role("textbox", name="Message").fill(text)
        panel.get_by_role("textbox", name="Message").blur()

    nb.restart()
    nb.run(0)
    for index in (1, 2):  # the first one makes its thread the current one
        nb.run(index)
    for panel, title, text in zip(panels, ("Apples", "Pears"), ("an apple", "a pear"), strict=True):
        expect(panel.locator(".piano-title")).to_have_text(title)
        expect(panel.get_by_role("textbox", name="Message")).to_have_value(text)

    nb.run(4)  # whoever chooses a thread in this kernel gets that one
    nb.run(2)
    expect(panels[1].locator(".piano-title")).to_have_text("Apples")


NOTES = "some notes"


def open_agents(nb):
    nb.panel.locator("header").get_by_role("button", name="Who answers").click()
    button(nb, "Edit agents…").click()
    return nb.panel.get_by_role("dialog", name="Agents", exact=True)


def write_a_form(nb):
    agents = open_agents(nb)
    agents.get_by_role("button", name="New agent").click()
    agents.get_by_role("textbox", name="System prompt").fill("You count.")


def give_up_the_form(nb):
    agents = open_agents(nb)
    expect(agents.get_by_role("textbox", name="System prompt")).to_have_value("You count.")
    expect(agents.get_by_role("alert")).to_contain_text("not saved yet")
    agents.get_by_role("button", name="Back").click()
    agents.get_by_role("button", name="Give it up").click()
    expect(agents.locator(".piano-thread-open")).to_have_count(1)
    nb.page.keyboard.press("Escape")


def test_a_draft_with_values_and_files_survives_all_that_text_alone_does(notebook, stub_model):
    stub_model.says("first answer", "second answer", "A plot and notes.")
    nb = notebook([f"rate = 0.19\n{OPEN}"])
    nb.run(0)
    ask(nb, "one")
    expect(answers(nb)).to_have_count(1)
    box(nb).evaluate(PASTE, ["plot.png", "image/png", in_base64(png(64, 48))])
    box(nb).evaluate(PASTE, ["notes.txt", "text/plain", in_base64(NOTES.encode())])
    box(nb).fill("look at {{rate}}")
    chips = ["rate×", "plot.png, 64 × 48×", "notes.txt, 10 bytes×"]

    def is_there(text="look at {{rate}}"):
        expect(box(nb)).to_have_value(text, timeout=SOON)
        expect(nb.panel.locator(".piano-chip")).to_have_text(chips)

    is_there()
    button(nb, "Edit").click()
    box(nb).press("Escape")
    is_there()
    button(nb, "Edit").click()
    ask(nb, "two")
    expect(written(nb)).to_have_text(["second answer"])
    is_there()
    box(nb).blur()
    nb.save()
    nb.reload()
    is_there()
    expect(nb.panel.locator(".piano-chip img")).to_be_visible()
    nb.run(0)
    is_there()
    button(nb, "New thread").click()
    expect(box(nb)).to_have_value("")
    expect(nb.panel.locator(".piano-chip")).to_have_count(0)
    button(nb, "Threads").click()
    nb.panel.locator(".piano-thread-title").filter(has_text="one").click()
    is_there()
    write_a_form(nb)
    nb.restart()
    button(nb, "Reconnect").click()  # which is said over an open sheet, too
    is_back(nb, "look at {{rate}}")
    give_up_the_form(nb)
    nb.restart()
    box(nb).press_sequentially(" now")  # nobody takes it but this page
    nb.run(0)
    is_there("look at {{rate}} now")

    box(nb).press("Enter")
    expect(written(nb)).to_have_text(["second answer", "A plot and notes."])
    expect(nb.panel.locator(".piano-chip")).to_have_count(0)
    content = str(stub_model.requests[-1]["messages"][-1]["content"])
    assert all(each in content for each in ("image_url", NOTES, "0.19"))
    nb.run(0)
    expect(written(nb)).to_have_count(2)
    expect(nb.panel.locator(".piano-chip")).to_have_count(0)
