"""What programs of an agent's code print goes to its result, in order, and afterwards where it went before."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from waiting import until

from piano_jupyter.jupyter.kernel_tools.captured_output import CapturedText
from piano_jupyter.jupyter.kernel_tools.program_output import captured_programs

pytestmark = pytest.mark.skipif(os.name != "posix", reason="programs are captured on POSIX systems only")


@pytest.fixture
def output(capfd):
    """A text for the output, while `print` uses no standard descriptor, as in a kernel."""
    assert sys.stdout.fileno() not in {1, 2}
    return CapturedText(1000)


def open_descriptors():
    until(lambda: not is_reading(), "a thread did not end")
    return len(list(Path("/dev/fd").iterdir()))


def is_reading():
    return any(thread.name == "piano-programs" for thread in threading.enumerate())


def test_both_streams_of_programs_are_in_the_output_in_the_order_of_writing(output, capfd):
    with captured_programs(output) as code:
        for number in range(3):
            code.write(f"code {number}\n")
            subprocess.run(["sh", "-c", f"echo program {number}; echo error {number} >&2"], check=True)

    assert output.text() == "".join(f"code {n}\nprogram {n}\nerror {n}\n" for n in range(3))
    subprocess.run(["sh", "-c", "echo later; echo wrong >&2"], check=True)
    assert capfd.readouterr() == ("later\n", "wrong\n")
    until(lambda: not is_reading(), "the thread did not end")


def test_what_other_threads_print_meanwhile_goes_where_it_always_goes(output, capfd):
    with captured_programs(output):
        thread = threading.Thread(target=print, args=("elsewhere",))
        thread.start()
        thread.join()

    assert (output.text(), capfd.readouterr().out) == ("", "elsewhere\n")


def test_a_program_that_prints_much_does_not_wait_and_its_start_and_end_are_kept(output):
    with captured_programs(output):
        subprocess.run(["sh", "-c", "echo first; head -c 5000000 /dev/zero | tr '\\0' y; echo last"], check=True)

    assert output.text().startswith("first\nyyy")
    assert output.text().endswith("yyylast\n")
    assert "[... 4,999,011 characters left out ...]" in output.text()


def test_what_a_program_prints_after_the_end_of_the_call_goes_where_it_went_before(output, capfd, tmp_path):
    script = 'echo early; while [ ! -e "$0" ]; do sleep 0.01; done; echo late'
    with captured_programs(output):
        child = subprocess.Popen(["sh", "-c", script, str(tmp_path / "go")])
        until(lambda: "early" in output.text(), "the program did not start")

    (tmp_path / "go").touch()
    assert child.wait(30) == 0
    until(lambda: not is_reading(), "the thread did not end")
    assert (output.text(), capfd.readouterr().out) == ("early\n", "late\n")


def test_characters_in_pieces_are_put_together_and_broken_ones_are_marked(output):
    with captured_programs(output):
        for byte in "grün\n".encode() + b"\xff\xc3":
            os.write(1, bytes([byte]))

    assert output.text() == "grün\n\ufffd\ufffd"


@pytest.mark.parametrize("close", [False, True])
def test_after_an_interrupt_the_descriptors_are_as_before_even_if_the_code_closed_them(output, capfd, close):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored in the background of a shell

    def interrupted():
        with captured_programs(output):
            os.write(1, b"in")
            if close:
                os.close(1)
                os.close(2)
            signal.raise_signal(signal.SIGINT)

    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    finally:
        signal.signal(signal.SIGINT, before)

    os.write(1, b"out")
    os.write(2, b"wrong")
    assert (output.text(), capfd.readouterr()) == ("in", ("out", "wrong"))


def test_a_hundred_calls_leave_no_descriptor_and_no_thread(output):
    before = open_descriptors()
    for _ in range(100):
        with captured_programs(output):
            os.write(1, b"x")

    assert output.text() == "x" * 100
    assert open_descriptors() == before


def test_where_print_uses_a_standard_descriptor_nothing_is_captured(output, monkeypatch, capfd):
    with open(1, "w", closefd=False) as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        with captured_programs(output) as code:
            os.write(1, b"shown")

    assert code is output
    assert (output.text(), capfd.readouterr().out) == ("", "shown")
