"""A real llama.cpp server for llama-swap to start and stop.

python tiny_server.py MODEL.gguf NAME PORT [--wait-for FILE]

With `--wait-for` it loads only once that file exists. It ends when the process that started it does.
"""

import argparse
import os
import threading
import time
from pathlib import Path


def main() -> None:
    """Serve until the parent ends, or until this process is stopped."""
    parser = argparse.ArgumentParser()
    parser.add_argument("gguf", type=Path)
    parser.add_argument("name")
    parser.add_argument("port", type=int)
    parser.add_argument("--wait-for", type=Path)
    options = parser.parse_args()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    while options.wait_for and not options.wait_for.exists():
        time.sleep(0.01)
    os.environ["OMP_WAIT_POLICY"] = "passive"

    from xllamacpp import CommonParams, Server

    params = CommonParams()
    params.model.path = str(options.gguf)
    params.model_alias = {options.name}
    params.hostnames = ["127.0.0.1"]
    params.port = options.port
    params.n_parallel = 1
    params.n_ctx = 32_768  # room for a model that never stops
    params.sampling.temp = 0.0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.cache_ram_mib = 16
    params.fit_params = False
    params.use_jinja = True
    params.ui = False
    params.verbosity = 2
    server = Server(params)
    print(f"{options.name} listens at {server.listening_address}", flush=True)
    threading.Event().wait()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(0)


if __name__ == "__main__":
    main()
