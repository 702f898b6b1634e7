import pytest

from piano_jupyter.text.short_paths import short_paths


@pytest.mark.parametrize(
    ("paths", "short"),
    [
        (["/notes/a.ipynb", "/notes/reports/b.ipynb"], ["a.ipynb", "b.ipynb"]),
        (["/notes/a.ipynb", "/notes/reports/a.ipynb"], ["notes/a.ipynb", "reports/a.ipynb"]),
        (["/x/r/a.ipynb", "/y/r/a.ipynb", "/y/a.ipynb"], ["x/r/a.ipynb", "y/r/a.ipynb", "y/a.ipynb"]),
        (["/notes/a.ipynb", "a.ipynb"], ["notes/a.ipynb", "a.ipynb"]),
        (["/notes/a.ipynb", "/notes/a.ipynb"], ["a.ipynb", "a.ipynb"]),
        (["process 12", "kernel 3fa9c1", ""], ["process 12", "kernel 3fa9c1", ""]),
    ],
)
def test_a_path_is_as_short_as_tells_it_from_the_others(paths, short):
    found = short_paths(paths)
    assert [found[path] for path in paths] == short
