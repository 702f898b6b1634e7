"""Where the skills and notebooks are that come with the package."""

from pathlib import Path


def shipped(kind: str) -> Path:
    """Return the folder of the shipped "skills" or "notebooks": inside the package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside, beside = package / "shipped" / kind, package.parent / kind
    in_checkout = (package.parent / "pyproject.toml").is_file()
    return beside if in_checkout and not inside.is_dir() else inside
