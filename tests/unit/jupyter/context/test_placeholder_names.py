"""TAB after `{{`: what can stand in double braces."""

import os
from types import SimpleNamespace

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from piano_jupyter.jupyter.context.placeholder_names import placeholder_names


class Shop:
    """A user's object."""

    country = "Spain"

    def __init__(self, name):
        self.name, self._secret = name, "hidden"

    def close(self):
        """Do nothing."""


class Broken:
    """An object that nothing can be read of."""

    def __getattr__(self, name):
        raise RuntimeError(name)

    __dir__ = None


SALES = pd.DataFrame({"price": [2.5], "sold per day": [3]})
VARIABLES = {
    "sales": SALES,
    "shop": Shop("tea"),
    "held": SimpleNamespace(frame=pl.from_pandas(SALES)),
    "arrow": pa.table({"price": [2.5]}),
    "lazy": pl.LazyFrame({"price": [2.5]}),
    "rows": {"north": 1, "it's": 2, 3: 4},
    "os": os,
    "broken": Broken(),
    "_hidden": 1,
}


@pytest.mark.parametrize(
    ("written", "fragment", "offered"),
    [
        ("", "", ["sales", "shop", "held", "arrow", "lazy", "rows", "os", "broken"]),
        (" s", "s", ["sales", "shop"]),
        ("sales.", "", ["price", "dtypes", "shape", "columns", "head(", "tail(", "sample(", "describe(", "info("]),
        ("sales.de", "de", ["describe("]),
        ("sales.to_", "to_", []),
        ("sales['", "'", ["'price']", "'sold per day']"]),
        ('sales["so', '"so', ['"sold per day"]']),
        ("sales[", "", ['"price"]', '"sold per day"]']),
        ("sales['price'].v", "v", ["value_counts("]),
        ("held.frame.p", "p", ["price"]),
        ("arrow.", "", ["price", "shape", "columns", "head(", "tail(", "info("]),
        ("arrow.des", "des", []),
        ("arrow.dt", "dt", []),
        ("lazy.sa", "sa", []),
        ("lazy.p", "p", ["price"]),
        ("shop.", "", ["country", "name"]),
        ("rows['", "'", ["'north']"]),
        ("os.get", "get", ["getcwd", "getpid"]),
        ("os.env", "env", []),
        ("broken.a", "a", []),
        ("nothing.a", "a", []),
        ("sales.head(2).", "", []),
        ("1 + ", "", []),
    ],
)
def test_names_attributes_columns_and_the_methods_that_are_called_are_offered(written, fragment, offered):
    found = placeholder_names(written, VARIABLES)

    assert found[0] == fragment
    if offered:
        assert [*offered] == [each for each in found[1] if each in offered]
    else:
        assert found[1] == []
    assert not [each for each in found[1] if "secret" in each or each.startswith("close")]
