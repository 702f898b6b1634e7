"""The page of the panel: its modules and styles, joined, because a widget brings one module and one style sheet.

Each module in `page/` has one idea, and imports what it needs from others by name; `panel.js` needs all of them. What
Piano's extension of the front end needs, too, is beside its modules.
"""

import re
from pathlib import Path

PAGE_FOLDER = Path(__file__).with_name("page")
EXTENSION_FOLDER = Path(__file__).parents[2] / "labextension" / "static"
IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.js";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?function|class|const|let)", re.MULTILINE)
STYLES = ("panel", "header", "messages", "compose")  # in the order in which they apply


def module_file(name: str) -> Path:
    """Return the file of a module of the page."""
    own = PAGE_FOLDER / f"{name}.js"
    return own if own.exists() else EXTENSION_FOLDER / own.name


def joined_modules(name: str = "panel") -> str:
    """Return a module with all that it imports, each before what needs it, as one module without imports."""
    order: dict[str, str] = {}

    def add(each: str) -> None:
        if each not in order:
            order[each] = ""  # not again, if two modules import each other
            source = module_file(each).read_text(encoding="utf-8")
            for needed in IMPORT.findall(source):
                add(needed)
            del order[each]
            order[each] = EXPORT.sub("", IMPORT.sub("", source))

    add(name)
    return "\n".join(order.values())


def joined_styles(folder: Path = PAGE_FOLDER) -> str:
    """Return the style sheet."""
    return "\n".join((folder / f"{name}.css").read_text(encoding="utf-8") for name in STYLES)
