"""Piano's own folders: for downloads, for what the user trusts, and for sockets. No tool reaches them."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import platformdirs

RUNTIME_FOLDERS = "/run/user"
TEMPORARY = Path("/tmp")  # noqa: S108  What is made there is checked.


def own_folders() -> list[Path]:
    """Return all of them, whether or not they exist; links are not resolved."""
    named = platformdirs.user_cache_path("piano_jupyter"), platformdirs.user_data_path("piano_jupyter")
    return [*named, *possible_socket_folders(), other_disk()]


def other_disk() -> Path:
    """Return the folder for what the user's cache folder cannot hold, as on a network disk; it may have to be made."""
    return Path(f"/var/tmp/piano_jupyter-{os.getuid()}")  # noqa: S108  What is made there is checked.


def record_folder(kind: str, workspace: Path) -> Path:
    """Return the folder in the user's data folder for records of a kind, such as "databases".

    Raises OSError if there can be none, or if it lies in the workspace, where tools can write.
    """
    folder, home = user_folder(kind), os.path.expanduser("~")  # noqa: PTH111  Path.home() raises where there is none.
    root, real = (Path(os.path.realpath(each)) for each in (workspace, folder))
    if real.is_relative_to(root) and not Path(os.path.realpath(home)).is_relative_to(root):
        raise OSError(f"the user data folder {folder} lies in the workspace")
    return folder


def user_folder(kind: str) -> Path:
    """Return the same folder, wherever it lies. Raises OSError if there can be none."""
    try:
        folder = Path(platformdirs.user_data_dir("piano_jupyter"), kind)
    except RuntimeError as error:  # a user without a home folder
        raise OSError(f"there is no user data folder: {error}") from error
    if not folder.is_absolute():
        raise OSError(f"the user data folder {folder} is not an absolute path")
    return folder


def possible_socket_folders() -> Iterator[Path]:
    """Yield where the sockets of store processes may be, the best place first."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    for folder in (runtime, f"{RUNTIME_FOLDERS}/{os.getuid()}"):  # where it is not in the environment, it may be there
        if folder.startswith("/") and Path(folder).is_dir():
            yield Path(folder, "piano_jupyter")
    own_name = f"piano_jupyter-{os.getuid()}"
    # TMPDIR is only second: a shell or a batch job may have one of its own, and all processes must agree on the folder
    yield from dict.fromkeys((TEMPORARY / own_name, Path(tempfile.gettempdir(), own_name)))
