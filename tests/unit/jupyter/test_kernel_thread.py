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
    task = MainThreadTask(lambda: done.append(1))

    for _ in range(3):
        task.do()

    assert done == [1]


def test_what_is_stopped_before_it_begins_never_begins():
    done = []
    task = MainThreadTask(lambda: done.append(1))

    task.stop()
    task.do()

    assert task.cancelled()
    assert done == []


def test_what_it_raises_is_its_result_and_an_exit_is_none():
    wrong, leaves = MainThreadTask(lambda: 1 / 0), MainThreadTask(lambda: exec("raise SystemExit(3)"))

    wrong.do()
    leaves.do()

    assert isinstance(wrong.exception(), ZeroDivisionError)
    assert isinstance(leaves.exception(), ToolError)


def test_a_stop_ends_what_runs_and_leaves_the_handler_of_interrupts_as_it_was():
    before = signal.getsignal(signal.SIGINT)
    task = MainThreadTask(spin)
    task.began.add_done_callback(lambda _: threading.Timer(0.01, task.stop).start())

    task.do()

    assert task.done()
    assert not task.interrupted
    assert signal.getsignal(signal.SIGINT) is before


def test_a_stop_at_whatever_moment_does_not_hit_what_comes_after():
    ended = 0
    for nth in range(300):
        task = MainThreadTask(lambda: time.sleep(0.001))
        stopper = threading.Thread(target=lambda task=task, nth=nth: (time.sleep(nth * 1e-5), task.stop()))
        stopper.start()
        task.do()
        for _ in range(500):  # a signal that came late would be raised here
            pass
        stopper.join()
        ended += task.cancelled() or task.exception() is not None

    assert 0 < ended < 300  # both happened: some were ended, some were over


def test_an_interrupt_of_the_users_ends_the_work_and_the_cell_in_which_it_ran(chat):
    kernel, happened = KernelThread(SHELL), queue.SimpleQueue()

    with kernel.lend(happened):
        waiting = chat(kernel.run(spin, within=30))
        task = happened.get(timeout=5)
        task.began.add_done_callback(
            lambda _: threading.Timer(0.05, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()
        )
        with pytest.raises(CellInterrupt):
            kernel.do(task)

    with pytest.raises(TaskInterruptedError):
        waiting.result(5)


def test_work_that_takes_too_long_is_ended_and_says_whether_it_had_begun(chat):
    kernel, happened = KernelThread(SHELL), queue.SimpleQueue()

    with kernel.lend(happened):
        late = chat(kernel.run(spin, within=30, running=0.05))
        kernel.do(happened.get(timeout=5))
        never = chat(kernel.run(spin, within=0.05))
        with pytest.raises(TaskTimeoutError, match=r"^not started after 0.05 s"):
            never.result(5)
        kernel.do(happened.get(timeout=5))  # it does nothing any more

    with pytest.raises(TaskTimeoutError, match=r"^stopped after 0.05 s"):
        late.result(5)


def test_who_cancels_the_wait_ends_the_work(chat):
    kernel, happened = KernelThread(SHELL), queue.SimpleQueue()

    with kernel.lend(happened):
        waiting = chat(kernel.run(spin, within=30))
        task = happened.get(timeout=5)
        task.began.add_done_callback(lambda _: waiting.cancel())
        kernel.do(task)

    assert waiting.cancelled()
    assert not task.interrupted


def test_work_waits_for_a_cell_that_lends_itself_and_the_first_takes_it(chat):
    kernel, outer, inner = KernelThread(SHELL), queue.SimpleQueue(), queue.SimpleQueue()

    with kernel.lend(outer):
        waiting = chat(kernel.run(lambda: "done", within=30))
        task = outer.get(timeout=5)
        with kernel.lend(inner):
            assert inner.get(timeout=5) is task
            kernel.do(task)
        kernel.do(task)

    assert waiting.result(5) == "done"


def test_in_a_terminal_work_is_refused_where_no_cell_waits_or_none_waits_any_more(chat):
    kernel, happened = KernelThread(SHELL), queue.SimpleQueue()

    with pytest.raises(ToolError, match="not_here: in a terminal"):
        chat(kernel.run(lambda: 1, within=30)).result(5)
    with kernel.lend(happened):
        left = chat(kernel.run(lambda: 1, within=30))
        happened.get(timeout=5)

    with pytest.raises(ToolError, match="not_here: in a terminal"):
        left.result(5)


def test_work_cannot_wait_for_work(chat):
    kernel, happened = KernelThread(SHELL), queue.SimpleQueue()

    with kernel.lend(happened):
        waiting = chat(kernel.run(kernel.check, within=30))
        kernel.do(happened.get(timeout=5))

    with pytest.raises(PianoError, match="code that an agent runs cannot ask or wait"):
        waiting.result(5)
    kernel.check()


def test_a_cell_on_another_thread_lends_nothing(chat):
    kernel = KernelThread(SHELL)

    async def lend():
        with kernel.lend(queue.SimpleQueue()):
            return kernel.cell_waits

    assert chat(lend()).result(5) is False
