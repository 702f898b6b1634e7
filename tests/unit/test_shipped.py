"""Where the shipped skills and notebooks are."""

import shutil
import subprocess
import sys
from pathlib import Path

import piano_jupyter
from piano_jupyter.shipped import shipped


def test_a_checkout_has_them_beside_the_package():
    assert shipped("skills") == Path(piano_jupyter.__file__).parents[1] / "skills"
    assert shipped("notebooks").name == "notebooks"


def test_an_installed_package_has_them_inside_and_takes_no_strangers_folder(tmp_path):
    (tmp_path / "piano_jupyter" / "shipped" / "notebooks").mkdir(parents=True)
    shutil.copy(Path(piano_jupyter.__file__).with_name("shipped.py"), tmp_path / "piano_jupyter")
    (tmp_path / "piano_jupyter" / "__init__.py").touch()
    (tmp_path / "skills").mkdir()
    program = "from piano_jupyter.shipped import shipped; print(shipped('notebooks')); print(shipped('skills'))"

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )

    inside = tmp_path.resolve() / "piano_jupyter" / "shipped"
    assert done.stdout.split() == [str(inside / "notebooks"), str(inside / "skills")]
