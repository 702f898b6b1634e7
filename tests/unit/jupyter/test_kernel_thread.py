"""Work on the main thread: done once, or never; ended by an interrupt that hits nothing else."""

import asyncio
import queue
import signal
import threading
import time
from types import SimpleNamespace

import pytest

from piano_jupyter.errors import PianoError, ToolError
from piano_jupyter.jupyter.kernel_thread import (
    CellInterrupt,
    KernelThread,
    MainThreadTask,
    TaskInterruptedError,
    TaskTimeoutError,
)

SHELL = SimpleNamespace()  # as in a terminal: no kernel


def spin():
    while True:
        time.sleep(0.001)


@pytest.fixture
def chat():
    """Run coroutines on a loop of another thread, as the chat does; the test's thread is the kernel's."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield lambda work: asyncio.run_coroutine_threadsafe(work, loop)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_what_several_would_do_is_done_once():
    done = []
    errand = MainThreadTask(lambda: done.append(1))

    for _ in range(3):
        errand.do()

    assert done == [1]


def test_what_is_stopped_before_it_begins_never_begins():
    done = []
    errand = MainThreadTask(lambda: done.append(1))

    errand.stop()
    errand.do()

    assert errand.cancelled()
    assert done == []


def test_what_it_raises_is_its_result_and_an_exit_is_none():
    wrong, leaves = MainThreadTask(lambda: 1 / 0), MainThreadTask(lambda: exec("raise SystemExit(3)"))

    wrong.do()
    leaves.do()

    assert isinstance(wrong.exception(), ZeroDivisionError)
    assert isinstance(leaves.exception(), ToolError)


def test_a_stop_ends_what_runs_and_leaves_the_handler_of_interrupts_as_it_was():
    before = signal.getsignal(signal.SIGINT)
    errand = MainThreadTask(spin)
    errand.began.add_done_callback(lambda _: threading.Timer(0.01, errand.stop).start())

    errand.do()

    assert errand.done()
    assert not errand.interrupted
    assert signal.getsignal(signal.SIGINT) is before


def test_a_stop_at_whatever_moment_does_not_hit_what_comes_after():
    ended = 0
    for nth in range(300):
        errand = MainThreadTask(lambda: time.sleep(0.001))
        stopper = threading.Thread(target=lambda errand=errand, nth=nth: (time.sleep(nth * 1e-5), errand.stop()))
        stopper.start()
        errand.do()
        for _ in range(500):  # a signal that came late would be raised here
            pass
        stopper.join()
        ended += errand.cancelled() or errand.exception() is not None

    assert 0 < ended < 300  # both happened: some were ended, some were over


def test_an_interrupt_of_the_users_ends_the_work_and_the_cell_in_which_it_ran(chat):
    kernel, happened = KernelThread(SHELL), queue.SimpleQueue()

    with kernel.lent(happened):
        waiting = chat(kernel.run(spin, within=30))
        errand = happened.get(timeout=5)
        errand.began.add_done_callback(
            lambda _: threading.Timer(0.05, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()
        )
        with pytest.raises(CellInterrupt):
            kernel.do(errand)

    with pytest.raises(TaskInterruptedError):
        waiting.result(5)


def test_work_that_takes_too_long_is_ended_and_says_whether_it_had_begun(chat):
    kernel, happened = KernelThread(SHELL), queue.SimpleQueue()

    with kernel.lent(happened):
        late = chat(kernel.run(spin, within=30, running=0.05))
        kernel.do(happened.get(timeout=5))
        never = chat(kernel.run(spin, within=0.05))
        with pytest.raises(TaskTimeoutError, match=r"^not begun after 0.05 s"):
            never.result(5)
        kernel.do(happened.get(timeout=5))  # it does nothing any more

    with pytest.raises(TaskTimeoutError, match=r"^ended after 0.05 s"):
        late.result(5)


def test_who_cancels_the_wait_ends_the_work(chat):
    kernel, happened = KernelThread(SHELL), queue.SimpleQueue()

    with kernel.lent(happened):
        waiting = chat(kernel.run(spin, within=30))
        errand = happened.get(timeout=5)
        errand.began.add_done_callback(lambda _: waiting.cancel())
        kernel.do(errand)

    assert waiting.cancelled()
    assert not errand.interrupted


def test_work_waits_for_a_cell_that_lends_itself_and_the_first_takes_it(chat):
    kernel, outer, inner = KernelThread(SHELL), queue.SimpleQueue(), queue.SimpleQueue()

    with kernel.lent(outer):
        waiting = chat(kernel.run(lambda: "done", within=30))
        errand = outer.get(timeout=5)
        with kernel.lent(inner):
            assert inner.get(timeout=5) is errand
            kernel.do(errand)
        kernel.do(errand)

    assert waiting.result(5) == "done"


def test_in_a_terminal_work_is_refused_where_no_cell_waits_or_none_waits_any_more(chat):
    kernel, happened = KernelThread(SHELL), queue.SimpleQueue()

    with pytest.raises(ToolError, match="not_here: in a terminal"):
        chat(kernel.run(lambda: 1, within=30)).result(5)
    with kernel.lent(happened):
        left = chat(kernel.run(lambda: 1, within=30))
        happened.get(timeout=5)

    with pytest.raises(ToolError, match="not_here: in a terminal"):
        left.result(5)


def test_work_cannot_wait_for_work(chat):
    kernel, happened = KernelThread(SHELL), queue.SimpleQueue()

    with kernel.lent(happened):
        waiting = chat(kernel.run(kernel.check, within=30))
        kernel.do(happened.get(timeout=5))

    with pytest.raises(PianoError, match="code that an agent runs cannot ask or wait"):
        waiting.result(5)
    kernel.check()


def test_a_cell_on_another_thread_lends_nothing(chat):
    kernel = KernelThread(SHELL)

    async def lend():
        with kernel.lent(queue.SimpleQueue()):
            return kernel.cell_waits

    assert chat(lend()).result(5) is False
