"""CPU of `%load_ext` over bare IPython, beside the peers: python tests/benchmarks/bench_load.py [--peer-python PATH].

`--peer-python` is an interpreter with jupyter_ai_magics or jupyter_ai_magic_commands; it may be given more than once.
`--before` is a folder with an earlier state of the source, which is loaded in turn with this one:
`git archive COMMIT | tar -x -C FOLDER`.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROUNDS = 9
LIMIT = 120  # ms
CODE = """
import sys, time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("1")
begun = time.process_time()
shell.run_line_magic("load_ext", sys.argv[1])
print((time.process_time() - begun) * 1000)
"""


def load_once(python, extension, source=None):
    """Return the CPU of loading an extension, in ms; None where it cannot be loaded."""
    env = os.environ | ({"PYTHONPATH": str(source)} if source else {})
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [python, "-c", CODE, extension],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    return float(run.stdout.split()[-1]) if run.returncode == 0 else None


def load(python, extension):
    """Return the median CPU of loading an extension, in ms; None where it cannot be loaded."""
    taken = [load_once(python, extension) for _ in range(ROUNDS)]
    return None if None in taken else statistics.median(taken)


def beside(before):
    """Print the median CPU of loading this source and an earlier one, in turn."""
    sources = {"before": Path(before).resolve(), "now": Path(__file__).parents[2]}
    taken = {name: [] for name in sources}
    for _ in range(ROUNDS):
        for name, source in sources.items():
            taken[name].append(load_once(sys.executable, "piano_jupyter", source))
    for name, each in taken.items():
        print(f"  piano_jupyter, {name:11} {statistics.median(each):8.1f} ms   (fastest {min(each):.1f} ms)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", action="append", default=[])
    parser.add_argument("--before", default="")
    options = parser.parse_args()
    print(f"%load_ext, CPU over bare IPython, median of {ROUNDS}")
    print(f"  piano_jupyter              {load(sys.executable, 'piano_jupyter'):8.1f} ms   (limit {LIMIT} ms)")
    if options.before:
        beside(options.before)
    for peer in ("jupyter_ai_magics", "jupyter_ai_magic_commands"):
        found = [took for python in (*options.peer_python, sys.executable) if (took := load(python, peer)) is not None]
        print(f"  {peer:26} " + (f"{found[0]:8.1f} ms" if found else "not installed; see --peer-python"))
