"""The extension of JupyterLab: what is installed of it, and that its parts fit together."""

import json
import re
import tomllib
from importlib.metadata import files
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXTENSION = ROOT / "piano_jupyter" / "labextension"
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MODULES = {path.stem: path.read_text(encoding="utf-8") for path in (EXTENSION / "static").glob("*.js")}
MAX_LINES = 400


def test_an_installation_brings_every_file_of_the_extension_to_where_jupyterlab_looks():
    [(source, target)] = SETTINGS["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"].items()
    installed = {path.as_posix().partition(f"{target}/")[2] for path in files("piano_jupyter")} - {""}

    assert ROOT / source == EXTENSION
    assert target == "share/jupyter/labextensions/piano-jupyter"
    assert installed == {path.relative_to(EXTENSION).as_posix() for path in EXTENSION.rglob("*") if path.is_file()}


def test_the_extension_has_the_version_of_the_package_also_in_the_address_of_its_modules():
    package = json.loads((EXTENSION / "package.json").read_text(encoding="utf-8"))

    assert package["version"] == SETTINGS["project"]["version"]
    assert package["jupyterlab"]["_build"]["load"] == f"static/remoteEntry.js?{package['version']}"


def test_each_module_is_a_plugin_that_the_container_loads_and_no_module_is_long():
    [plugins] = re.findall(r"PLUGINS = \[(.*?)\]", MODULES["remoteEntry"])

    assert {"remoteEntry", "renewed", *re.findall(r'"(\w+)"', plugins)} == set(MODULES)
    for name, text in MODULES.items():
        assert len(text.splitlines()) <= MAX_LINES
        assert name in {"remoteEntry", "renewed"} or f'id: "piano-jupyter:{name}"' in text


def test_no_module_evaluates_text_or_sets_markup():
    unsafe = re.compile(
        r"\beval\b|new Function|innerHTML|outerHTML|insertAdjacentHTML|document\.write|import\((?!address)"
    )

    assert [name for name, text in MODULES.items() if unsafe.search(text)] == []
