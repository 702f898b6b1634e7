"""An agent's code prints to its tool call, all other code as before, whatever else replaces `sys.stdout`."""

import asyncio
import gc
import io
import subprocess
import sys
import threading
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from contextvars import Context
from types import SimpleNamespace

import pytest

from piano_jupyter.agent_code import StandardStream, in_agent_code, install_proxies, redirect_output


@contextmanager
def standard_output():
    """Yield a standard output for the test, with a proxy in front."""
    with redirect_stdout(io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)) as own:
        install_proxies()
        yield own


def text(stream):
    return stream.buffer.getvalue().decode()


def test_only_what_this_context_prints_is_kept():
    with standard_output() as stream:
        kept = io.StringIO()

        with redirect_output(kept):
            print("mine")
            sys.stdout.writelines(["and ", "more"])
            thread = threading.Thread(target=print, args=["theirs"])
            thread.start()
            thread.join()
            Context().run(print, "of no context")
        print("after")

        assert kept.getvalue() == "mine\nand more"
        assert text(stream) == "theirs\nof no context\nafter\n"


def test_writing_bytes_is_the_same_error_as_on_the_stream():
    kept = []
    with (
        standard_output(),
        redirect_output(SimpleNamespace(write=kept.append)),
        pytest.raises(TypeError, match="not bytes"),
    ):
        sys.stdout.write(b"")

    assert kept == []


def test_stderr_is_captured_only_on_request():
    kept = io.StringIO()

    with redirect_stderr(io.StringIO()) as errors:
        with redirect_output(kept):
            print("shown", file=sys.stderr)
        with redirect_output(kept, kept):
            print("kept", file=sys.stderr)

    assert (errors.getvalue(), kept.getvalue()) == ("shown\n", "kept\n")


def test_a_nested_call_captures_its_own_output():
    with standard_output():
        outer, inner = io.StringIO(), io.StringIO()

        with redirect_output(outer):
            print("outer")
            with redirect_output(inner):
                print("inner")
            print("outer again")

        assert (outer.getvalue(), inner.getvalue()) == ("outer\nouter again\n", "inner\n")


async def test_a_task_left_running_prints_to_the_ordinary_stream():
    with standard_output() as stream:
        kept, over = io.StringIO(), asyncio.Event()

        async def left_behind():
            print("during")
            await over.wait()
            print("later")

        with redirect_output(kept):
            task = asyncio.create_task(left_behind())
            await asyncio.sleep(0)
        over.set()
        await task

        assert kept.getvalue() == "during\n"
        assert text(stream) == "later\n"


def test_a_proxy_behaves_like_its_stream_except_for_writes():
    with standard_output() as stream:
        proxy = sys.stdout

        assert type(proxy) is StandardStream
        assert isinstance(proxy, io.TextIOWrapper)
        assert (proxy.buffer, proxy.encoding, proxy.isatty(), proxy.closed) == (stream.buffer, "utf-8", False, False)
        assert (dir(proxy), repr(proxy)) == (dir(stream), repr(stream))
        with pytest.raises(io.UnsupportedOperation):
            proxy.fileno()
        with pytest.raises(AttributeError, match="set_parent"):
            proxy.set_parent({})
        proxy.parent_header = {"id": 1}
        assert stream.parent_header == {"id": 1}
        del proxy.parent_header
        assert not hasattr(stream, "parent_header")


def test_each_stream_has_one_permanent_proxy():
    with standard_output() as stream:
        proxy = sys.stdout

        with redirect_output(io.StringIO()):
            install_proxies()
        assert sys.stdout is proxy
        sys.stdout = stream
        install_proxies()

        assert sys.stdout is proxy


def test_a_temporarily_redirected_stream_is_restored_and_its_proxy_is_not_freed():
    with standard_output() as stream:
        proxy, kept = sys.stdout, io.StringIO()

        with redirect_stdout(io.StringIO()) as above:
            print("above")
            with redirect_output(kept):
                print("mine")
                with redirect_stdout(io.StringIO()) as own:
                    print("the code's own")
            print("above again")
            identity = id(sys.stdout)
        gc.collect()

        assert sys.stdout is proxy
        assert above.getvalue() == "above\nabove again\n"
        assert (kept.getvalue(), own.getvalue(), text(stream)) == ("mine\n", "the code's own\n", "")
        assert identity in {id(each) for each in gc.get_objects() if type(each) is StandardStream}


def test_an_earlier_stream_that_is_restored_gets_its_proxy_again():
    with standard_output() as stream:
        with redirect_stdout(io.StringIO()) as below:
            install_proxies()
            sys.stdout = stream  # somebody puts back what they found, beneath the proxy
            with redirect_output(io.StringIO()) as _:
                print("kept")
            print("shown")

        assert below.getvalue() == ""
        assert text(stream) == "shown\n"


def test_a_process_without_streams_runs_and_one_with_them_ends_cleanly():
    code = """
import io, os, sys
from piano_jupyter.agent_code import install_proxies, redirect_output
out, sys.stdout = sys.stdout, None
with redirect_output(io.StringIO()):
    print("nowhere")
sys.stdout = out
install_proxies()
print(sys.stdout.fileno(), input("typed: "))
sys.stdout.reconfigure(line_buffering=False)
print("not flushed yet", end="")
"""
    ran = subprocess.run([sys.executable, "-c", code], input="yes\n", capture_output=True, text=True, check=True)

    assert (ran.stdout, ran.stderr) == ("typed: 1 yes\nnot flushed yet", "")


def test_code_can_tell_that_an_agent_runs_it():
    with redirect_output(io.StringIO()):
        inside = in_agent_code()

    assert (inside, in_agent_code()) == (True, False)


def test_a_replaced_write_sees_what_others_print_until_it_is_restored():
    seen, kept = [], io.StringIO()
    with standard_output() as stream:
        before = sys.stdout.write

        def tee(data):
            seen.append(data)
            return before(data)

        for _ in range(2):
            sys.stdout.write = tee
            print("shown", end=" ")
            with redirect_output(kept):
                print("mine")
            sys.stdout.write = before
        print("after", end="")

        assert sys.stdout.write is before
        assert text(stream) == "shown shown after"
    assert (seen, kept.getvalue()) == (["shown", " "] * 2, "mine\nmine\n")
