"""What a model is told of a variable, and of code that it ran."""

import re
import sys
import threading
import tracemalloc
from types import ModuleType, SimpleNamespace

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from piano_jupyter import tool
from piano_jupyter.errors import ToolError
from piano_jupyter.jupyter.kernel_tools.bounded_repr import bounded
from piano_jupyter.jupyter.kernel_tools.captured_output import CapturedText, captured
from piano_jupyter.jupyter.kernel_tools.description import bytes_text, described
from piano_jupyter.jupyter.kernel_tools.toolset import KernelTools, variables_table
from piano_jupyter.runner.tools.permissions.policy import judge
from piano_jupyter.tool import Verdict
from piano_jupyter.variables.data_frames import frames_in

SALES = {"item": ["tea", "bread", "tea", None], "price": [2.5, 3.2, 2.5, None]}
TABLE = ("nulls  values", "1      2 different: tea (2), bread (1)", "1      2.5 to 3.2, mean 2.73333")


@pytest.mark.parametrize(
    ("frame", "head"),
    [
        (pd.DataFrame(SALES), "pandas.DataFrame, 4 rows × 2 columns, "),
        (pl.DataFrame(SALES), "polars.DataFrame, 4 rows × 2 columns, "),
        (pa.table(SALES), "pyarrow.Table, 4 rows × 2 columns, "),
        (pl.LazyFrame(SALES), "polars.LazyFrame, rows are counted when it is read × 2 columns\n"),
        (
            duckdb.sql(
                "SELECT * FROM (VALUES ('tea', 2.5), ('bread', 3.2), ('tea', 2.5), (NULL, NULL)) t(item, price)"
            ),
            "duckdb.DuckDBPyRelation, rows are counted when it is read × 2 columns\n",
        ),
    ],
    ids=["pandas", "polars", "pyarrow", "lazy", "duckdb"],
)
def test_a_frame_is_described_by_its_columns_nulls_values_and_first_rows(frame, head):
    text = described(frame)

    assert text.startswith(head)
    assert "\nitem " in text
    assert [line for line in TABLE if line in text] == list(TABLE[: 2 if "Decimal" in text else 3])
    assert text.split("first rows:\n")[1].split()[:4] == ["item", "price", "tea", "2.5"]
    assert ("those of a sample: the first 4 rows" in text) == (" rows are" in head)


def test_columns_of_all_types_are_described():
    frame = pd.DataFrame(
        {
            "when": pd.date_range("2026-01-01", periods=3, tz="UTC"),
            "flag": [True, False, True],
            "mixed": [[1], {}, None],
            "sort": pd.Categorical(["a", "b", "a"]),
            "whole": pd.array([1, None, 3], dtype="Int64"),
            1: [float("inf"), 1.0, float("nan")],
        },
        index=pd.Index(["x", "y", "z"], name="key"),
    )

    lines = described(frame).splitlines()

    assert lines[1] == "index: Index key, from x to z"
    rows = {line.split()[0]: " ".join(line.split()[2:]) for line in lines[3:9]}
    assert rows == {
        "when": "UTC] 0 2026-01-01 00:00:00+00:00 to 2026-01-03 00:00:00+00:00",
        "flag": "0 2 different: True (2), False (1)",
        "mixed": "1 such as [1]",
        "sort": "0 2 different: a (2), b (1)",
        "whole": "1 1 to 3, mean 2",
        "1": "1 1 to inf, mean inf",
    }


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.arange(12).reshape(3, 4), "numpy.ndarray, 3 × 4, 96 B"),
        (np.zeros((2, 3, 4)), "numpy.ndarray, 2 × 3 × 4, 192 B"),
        (np.array(5), "numpy.ndarray, one value, 8 B"),
        (np.zeros((0, 3)), "numpy.ndarray, 0 × 3, 0 B"),
        (np.array([[1, 2], [3, 4]]).view(np.matrix), "1 to 3, mean 2"),
        (pd.Series([1, 2], name="n"), "pandas.Series, 2 values"),
        (pl.Series("n", [1, 2]), "polars.Series, 2 values"),
        (pd.DataFrame(), "pandas.DataFrame, 0 rows × 0 columns"),
        (pd.DataFrame(np.zeros((2, 1000))), "… and 940 more columns\nfirst rows of the first 20 columns:"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "a       int64  0      2 to 2, mean 2"),
    ],
)
def test_arrays_and_unusual_frames_are_described(array, says):
    assert says in described(array)


@pytest.mark.parametrize("kind", ["pandas", "strided", "object", "polars", "pyarrow", "numpy"])
def test_of_ten_million_rows_a_sample_is_read_and_nothing_copied(kind):
    rows = 10_000_000
    numbers = np.arange(rows, dtype=float)
    frame = {
        "pandas": lambda: pd.DataFrame({"n": numbers}),
        "strided": lambda: pd.DataFrame(np.zeros((rows, 2))),
        "object": lambda: pd.DataFrame(
            {"n": pd.Series(np.resize(np.array(["a", "b"], dtype=object), rows), dtype=object)}
        ),
        "polars": lambda: pl.DataFrame({"n": numbers}),
        "pyarrow": lambda: pa.table({"n": numbers}),
        "numpy": lambda: numbers[::-1].reshape(2, -1),
    }[kind]()
    described(frame[:2])  # what is imported for it is no part of the cost

    arrow = pa.total_allocated_bytes()
    tracemalloc.start()
    text = described(frame)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert "10,000 rows, drawn at random" in text or kind == "numpy"
    assert peak < 8_000_000  # bytes; a copy of a column has 80,000,000
    assert pa.total_allocated_bytes() - arrow < 1_000_000


def test_functions_classes_modules_and_tools_are_described_by_their_docstrings():
    def add(a: int, b: int = 1) -> int:
        """Add two numbers."""
        return a + b

    module = ModuleType("mine", "A module.\n\nWith more to say.")
    module.__version__, module.name = "1.2", 1

    assert described(add).startswith(
        f"function {add.__qualname__}(a: int, b: int = 1) -> int\nAdd two numbers.\nsource:\n"
    )
    assert "return a + b" in described(tool(add))
    assert described(CapturedText).startswith("class CapturedText(limit: int) -> None\nA growing text")
    assert described(module) == "module mine 1.2\nA module.\nnames: name"
    assert described(len).startswith("function len(obj, /)\nReturn the number of items")


class Hostile:
    """An object of the user's that fails wherever it is touched."""

    def __repr__(self):
        raise OSError("no")

    def __getattr__(self, name):
        raise OSError("no")

    def __len__(self):
        raise OSError("no")

    def __sizeof__(self):
        raise OSError("no")

    def __eq__(self, other):
        raise OSError("no")

    __hash__ = None


def test_an_object_whose_every_method_raises_is_described():
    assert "<a Hostile, whose repr raised OSError>" in described(Hostile())
    assert "such as <a Hostile" in described(pd.DataFrame({"x": pd.Series([Hostile()], dtype=object)}))
    assert variables_table({"bad": Hostile()}, "").endswith("Hostile  unknown (OSError)")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x" * 1000, f"'{'x' * 50}'… (1,000 characters)"),
        (b"x" * 1000, f"b'{'x' * 50}'… (1,000 bytes)"),
        ({"a": [1, 2]}, "{'a': [1, 2]}"),
    ],
)
def test_the_description_of_a_value_is_bounded(value, text):
    assert bounded(value, 50) == text


def test_the_description_of_nested_or_endless_values_is_bounded():
    endless = []
    endless.append(endless)

    assert bounded(endless, 50) == "[[...]]"
    assert len(bounded([[list(range(100))] * 100] * 100, 1000)) == 1001
    assert bounded([SimpleNamespace(a="y" * 10**6)], 100).endswith("…")


def test_variables_are_listed_by_name_with_functions_and_modules_apart():
    variables = {
        "sys": sys,
        "b": [1, 2],
        "a": "text",
        "_hidden": 1,
        "size_text": bytes_text,
        "numbers": np.zeros((2, 3)),
    }

    assert variables_table(variables, "").splitlines() == [
        "name     type           size          memory",
        f"a        str            4 characters  {sys.getsizeof('text')} B",
        f"b        list           2 items       {sys.getsizeof([1, 2])} B",
        "numbers  numpy.ndarray  2 × 3         48 B",
        "functions and classes: size_text",
        "modules: sys",
    ]
    assert variables_table(variables, "NUM").splitlines()[1:] == ["numbers  numpy.ndarray  2 × 3  48 B"]
    assert variables_table(variables, "?").splitlines()[1].startswith("a ")
    everything = variables_table(variables, "")
    assert variables_table(variables, "zzz") == f"no name matches 'zzz'; all variables:\n{everything}"
    assert variables_table({"_": 1}, "zzz") == "there are no variables yet"
    assert "… and 200 more; use pattern to list fewer" in variables_table({f"v{n}": n for n in range(300)}, "")


def test_query_reads_the_frames_among_the_variables():
    frames = {
        "p": pd.DataFrame(),
        "q": pl.DataFrame(),
        "l": pl.LazyFrame(),
        "a": pa.table({}),
        "r": duckdb.sql("SELECT 1"),
    }

    assert frames_in({**frames, "n": 1, "s": pd.Series([1]), "c": pd.DataFrame}) == frames


def test_sizes_have_suitable_units():
    assert [bytes_text(each) for each in (0, 999, 1500, 15_000, 2.5e8, 4e10)] == [
        "0 B", "999 B", "1.5 kB", "15 kB", "250 MB", "40.0 GB",
    ]  # fmt: skip


def test_the_start_and_the_end_of_a_long_text_are_kept():
    kept = CapturedText(10)
    for letter in "abcdefghijklmnopqrstuvwxyz":
        kept.write(letter)

    assert kept.text() == "abcde\n[... 16 characters left out ...]\nvwxyz"


def test_of_a_progress_bar_the_last_state_is_kept():
    kept = CapturedText(1_000)
    for percent in range(0, 101, 10):
        kept.write(f"\r{percent}%")
    kept.write("\ndone\r\n")

    assert kept.text() == "100%\ndone\n"


def test_only_what_this_thread_prints_and_displays_is_captured(capsys):
    shown = []
    publisher = SimpleNamespace(publish=lambda data, **_: shown.append(data), clear_output=shown.append)
    shell, kept = SimpleNamespace(display_pub=publisher), CapturedText(1000)

    def elsewhere():
        print("other thread")
        shell.display_pub.publish({"text/plain": "theirs"})

    with captured(shell, kept):
        print("mine")
        print("mine too", file=sys.stderr)
        shell.display_pub.publish({"text/plain": "shown", "text/html": "<b>"}, {}, update=True)
        shell.display_pub.publish({"application/pdf": b""})
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()

    assert kept.text() == "mine\nmine too\nshown\n[application/pdf, which has no text]\n"
    assert capsys.readouterr() == ("other thread\n", "")
    assert shown == [{"text/plain": "theirs"}]
    assert shell.display_pub is publisher


@pytest.mark.parametrize("mode", ["read", "write", "full"])
def test_reading_is_allowed_in_every_mode_and_code_always_needs_approval(mode):
    tools = KernelTools(SimpleNamespace()).all()
    opinions = {each.name: judge(each, {}, mode=mode, rules=(), workspace="").verdict for each in tools}
    run = opinions.pop("run_python")

    assert set(opinions.values()) == {Verdict.ALLOW}
    assert run is (Verdict.DENY if mode == "read" else Verdict.ASK)


def test_the_tools_load_no_library_for_data_frames():
    import subprocess

    code = (
        "import sys, piano_jupyter.jupyter.kernel_tools.toolset\n"
        "print([name for name in ('pandas', 'polars', 'pyarrow', 'numpy') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ran.stdout == "[]\n"


def test_a_frame_that_cannot_be_read_is_described_with_the_reason():
    relation = duckdb.connect().sql("SELECT error('broken') AS x")

    assert "duckdb.DuckDBPyRelation, which cannot be read: InvalidInputException: " in described(relation)


def test_variables_runs_none_of_the_users_code_and_a_proxy_that_raises_hides_no_other():
    ran = []

    class Proxy:
        """As of a web framework: whatever is asked of it, it asks of what is not there yet."""

        @property
        def __class__(self):
            ran.append("class")
            raise RuntimeError("working outside of request context")

        @property
        def shape(self):
            ran.append("shape")
            return (1, 2)

        def __getattr__(self, name):
            ran.append(name)
            raise RuntimeError(name)

        def __len__(self):
            ran.append("len")
            return 1

        def __repr__(self):
            ran.append("repr")
            return "p"

    table = variables_table({"request": Proxy(), "x": np.zeros((2, 3)), "text": "abc"}, "")

    assert re.search(r"^request +\S+Proxy  ", table, re.MULTILINE)
    assert "2 × 3" in table
    assert "3 characters" in table
    assert ran == []


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("x = 1 # \u202e1 = y", "‹U+202E›"),
        ("x = 1" + "\n" * 300 + "!rm -rf .", "‹↵ × 200›"),
        ("x = 1;" + " " * 500 + "!rm -rf .", "‹␣ × 200›"),
        ("x\u200b = 1", "‹U+200B›"),
    ],
)
async def test_e9_code_with_hidden_parts_is_not_added_as_a_cell(code, told):
    with pytest.raises(ToolError, match=r"^hidden: ") as refused:
        await KernelTools(None).add_cell(code)

    assert told in str(refused.value)
