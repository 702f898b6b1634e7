import pytest

from piano_jupyter.text.short_paths import short_paths


@pytest.mark.parametrize(
    ("paths", "short"),
    [
        (["/work/a.ipynb", "/work/reports/b.ipynb"], ["a.ipynb", "b.ipynb"]),
        (["/work/a.ipynb", "/work/reports/a.ipynb"], ["work/a.ipynb", "reports/a.ipynb"]),
        (["/x/r/a.ipynb", "/y/r/a.ipynb", "/y/a.ipynb"], ["x/r/a.ipynb", "y/r/a.ipynb", "y/a.ipynb"]),
        (["/work/a.ipynb", "a.ipynb"], ["work/a.ipynb", "a.ipynb"]),
        (["/work/a.ipynb", "/work/a.ipynb"], ["a.ipynb", "a.ipynb"]),
        (["process 12", "kernel 3fa9c1", ""], ["process 12", "kernel 3fa9c1", ""]),
    ],
)
def test_a_path_is_as_short_as_tells_it_from_the_others(paths, short):
    found = short_paths(paths)
    assert [found[path] for path in paths] == short
