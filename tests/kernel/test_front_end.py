"""What the front end and the kernel say to each other: the panel beside the notebook, and errors that are explained."""

import pytest

SHOW = '__import__("importlib").import_module("piano_jupyter.jupyter.docked").show(resume=True)'
VIEW = "application/vnd.jupyter.widget-view+json"
SIDECAR = """
import ipywidgets
class Sidecar(ipywidgets.Output):
    def __init__(self, title, outputs):
        super().__init__(outputs=outputs)
        print("sidecar", title, list(outputs[0]["data"]))
    def close(self):
        super().close()
        closed.append(self)
closed = []
"""


def until(kernel, kind):
    """Return the content of the next message of a kind that is published."""
    while True:
        message = kernel.client.get_iopub_msg(timeout=60)
        if message["msg_type"] == kind:
            return message["content"]


def answer(kernel, kind, comm_id):
    """Send a message of a comm to the kernel; return the text that an output has then."""
    kernel.client.shell_channel.send(kernel.client.session.msg(kind, {"comm_id": comm_id, "data": {}}))
    return until(kernel, "update_display_data")["data"]["text/plain"]


def shown(kernel):
    """Ask for the panel beside the notebook, as the front end does; return the model of the view."""
    started = kernel.client.execute(SHOW, store_history=False)
    return [data[VIEW]["model_id"] for _, data in kernel.finish(started).outputs if VIEW in data]


def test_the_panel_beside_the_notebook_has_no_number_and_is_the_same_when_it_is_asked_for_again(kernel):
    [first] = shown(kernel)
    [again] = shown(kernel)
    kernel.run("%unload_ext piano_jupyter")

    assert first == again
    assert kernel.run("len(In)").text == "4"  # "", %load_ext, the cell before, and itself
    assert "has loaded piano_jupyter" in kernel.run(SHOW).stream
    assert kernel.run("'show' in dir()").text == "False"


def test_a_front_end_with_the_extension_says_that_the_panel_is_open(kernel):
    kernel.start("%piano panel --side")
    opened = until(kernel, "comm_open")

    assert opened["target_name"] == "piano-jupyter:dock"
    assert answer(kernel, "comm_msg", opened["comm_id"]) == "the chat is open beside the notebook"


def test_without_the_extension_a_sidecar_is_used_and_else_a_sentence_says_how(kernel):
    kernel.start("%piano panel --side")
    told = answer(kernel, "comm_close", until(kernel, "comm_open")["comm_id"])
    assert told.startswith("this front end has no extension that opens the chat beside the notebook: install")

    (kernel.folder / "sidecar.py").write_text(SIDECAR)
    kernel.start("%piano panel --side")
    assert answer(kernel, "comm_close", until(kernel, "comm_open")["comm_id"]) == "the chat is open in a sidecar"
    kernel.start("%piano panel --side")
    assert answer(kernel, "comm_close", until(kernel, "comm_open")["comm_id"]) == "the chat is open in a sidecar"
    assert kernel.run("import sidecar\nlen(sidecar.closed)").text == "1"


@pytest.mark.parametrize("number", ["2", "99"])
def test_explain_of_a_cell_explains_that_one_only(kernel, stub_model, number):
    kernel.run("1/0")
    stub_model.says("You divide by zero.")

    cell = kernel.run(f"%piano explain --of {number}")

    if number == "2":
        assert "You divide by zero." in cell.text
    else:
        assert "the error of In[99] is gone, since In[2] failed last: run that cell again" in cell.stream
        assert stub_model.requests == []
