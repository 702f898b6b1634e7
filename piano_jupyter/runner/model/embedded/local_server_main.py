"""The embedded model's process: reads its settings as a JSON line on stdin and writes its address as one to stdout.

It is run by its path, so that it imports nothing of piano_jupyter. It ends when stdin closes, which happens however its
parent ends.
"""

import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path


def main() -> None:
    """Serve until the parent ends."""
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        settings = json.loads(stdin.readline())
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    threading.Thread(target=_end_with_parent, args=(settings["parent"],), daemon=True).start()
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the library prints belongs to the log, not the answer

    from xllamacpp import CommonParams, Server  # noqa: PLC0415  It is slow, and the parent may end meanwhile.

    params = CommonParams()
    params.model.path = settings["gguf"]
    params.model_alias = {settings["alias"]}
    params.api_keys = [settings["key"]]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = 1
    params.n_ctx = settings["context"]
    params.n_predict = settings["max_answer_tokens"]
    params.sampling.temp = 0.0  # best for a tiny model, and gives the same answer to the same question
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = _threads()
    params.cache_ram_mib = 256  # prompts of other threads; the default is 8 GB
    params.fit_params = False  # it would load the model twice
    params.use_jinja = True
    params.ui = False
    params.verbosity = 2  # warnings: no prompt gets into the log
    try:
        server = Server(params)
    except RuntimeError:
        time.sleep(0.5)  # a thread of the library still writes the reason to the log
        raise
    with answer:
        answer.write(json.dumps({"url": server.listening_address}) + "\n")
    threading.Event().wait()


def _end_with_stdin() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)  # at once, even while it generates


def _end_with_parent(parent: int) -> None:
    """End with the parent even if a fork of it keeps stdin open."""
    while os.name == "posix":  # Windows has no forks
        if os.getppid() != parent:
            os._exit(0)
        time.sleep(1)


def _threads() -> int:
    """Return how many cores to use, at most 4: more do not help so small a model, and the kernel needs some."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        if Path("/sys/devices/system/cpu/smt/active").read_text().strip() == "1":
            cores //= 2
    with contextlib.suppress(OSError, ValueError):  # a container's limit; "max" is not a number
        quota, period = map(int, Path("/sys/fs/cgroup/cpu.max").read_text().split())
        cores = min(cores, quota // period)
    return max(1, min(cores, 4))


if __name__ == "__main__":
    main()
