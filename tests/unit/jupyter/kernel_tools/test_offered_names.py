import json
import os
from types import SimpleNamespace

import pandas as pd
import pytest

from piano_jupyter.jupyter.context.last_error import FailedCell
from piano_jupyter.jupyter.kernel_tools.offered_names import MAX_PREVIEW_CHARS, offered_names

CELLS = ["", "import json", "sales = load()\nsales.head()"]
SHELL = SimpleNamespace(history_manager=SimpleNamespace(input_hist_raw=CELLS))


class Hostile:
    def __repr__(self):
        raise RuntimeError("not today")


def offered(variables, failed=None):
    return {each["name"]: each for each in offered_names(SHELL, variables, failed)}


def test_variables_cells_and_the_last_error_are_offered_with_what_they_insert():
    sales = pd.DataFrame({"item": ["tea", "rum"], "price": [1.5, 20]})
    failed = FailedCell(ZeroDivisionError("division by zero"), "1 / 0", 7)

    found = offered({"sales": sales, "rate": 0.19, "_hidden": 1, "json": json, "load": lambda: 1}, failed)

    assert list(found) == ["error", "rate", "sales", "In[2]", "In[1]"]
    assert found["sales"] == {
        "kind": "variable",
        "name": "sales",
        "about": "pandas.DataFrame · 2 rows × 2 columns",
        "inserts": "{{sales}}",
    }
    assert found["rate"]["about"] == "float · 0.19"
    assert found["error"]["about"] == "ZeroDivisionError in In[7]"
    assert found["In[2]"]["about"] == "sales = load() sales.head()"
    assert found["In[2]"]["inserts"] == "{{cell[2]}}"


@pytest.mark.parametrize("value", ["line\n" * 10_000, list(range(10**6)), Hostile(), {"a": {"b": "c" * 500}}])
def test_a_preview_is_one_short_line_whatever_the_value_is(value):
    about = offered({"value": value})["value"]["about"]

    assert "\n" not in about
    assert len(about) < 2 * MAX_PREVIEW_CHARS


def test_the_environment_is_not_shown():
    found = offered({"environment": os.environ, "copied": dict(os.environ), "inside": [os.environ]})

    assert all(os.environ["PATH"][:20] not in each["about"] for each in found.values())
