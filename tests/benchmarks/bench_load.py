"""CPU of `%load_ext` over bare IPython, beside the peers: python tests/benchmarks/bench_load.py [--peer-python PATH].

`--peer-python` is an interpreter with jupyter_ai_magics or jupyter_ai_magic_commands; it may be given more than once.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile

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


def load(python, extension):
    """Return the median CPU of loading an extension, in ms; None where it cannot be loaded."""
    taken = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            run = subprocess.run(
                [python, "-c", CODE, extension], cwd=folder, capture_output=True, text=True, timeout=120, check=False
            )
        if run.returncode:
            return None
        taken.append(float(run.stdout.split()[-1]))
    return statistics.median(taken)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", action="append", default=[])
    options = parser.parse_args()
    print(f"%load_ext, CPU over bare IPython, median of {ROUNDS}")
    print(f"  piano_jupyter              {load(sys.executable, 'piano_jupyter'):8.1f} ms   (limit {LIMIT} ms)")
    for peer in ("jupyter_ai_magics", "jupyter_ai_magic_commands"):
        found = [took for python in (*options.peer_python, sys.executable) if (took := load(python, peer)) is not None]
        print(f"  {peer:26} " + (f"{found[0]:8.1f} ms" if found else "not installed; see --peer-python"))
