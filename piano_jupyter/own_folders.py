"""Piano's own folders: for downloads, for which databases are trusted, and for sockets. No tool reaches them."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import platformdirs

RUNTIME_FOLDERS = "/run/user"
LAST_RESORT = Path("/tmp")  # noqa: S108  What is made there is checked.


def own_folders() -> list[Path]:
    """Return all of them, whether or not they exist; links are not resolved."""
    named = platformdirs.user_cache_path("piano_jupyter"), platformdirs.user_data_path("piano_jupyter")
    return [*named, *possible_socket_folders()]


def possible_socket_folders() -> Iterator[Path]:
    """Yield where the sockets of store processes may be, the best place first."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    for folder in (runtime, f"{RUNTIME_FOLDERS}/{os.getuid()}"):  # where it is not in the environment, it may be there
        if folder.startswith("/") and Path(folder).is_dir():
            yield Path(folder, "piano_jupyter")
    own_name = f"piano_jupyter-{os.getuid()}"
    yield from dict.fromkeys((Path(tempfile.gettempdir(), own_name), LAST_RESORT / own_name))
