"""The page of the panel: its modules and styles, joined, because a widget brings one module and one style sheet.

Each module in `page/` has one idea, and imports what it needs from others by name; `panel.js` needs all of them.
"""

import re
from pathlib import Path

PAGE_FOLDER = Path(__file__).with_name("page")
IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.js";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?function|class|const|let)", re.MULTILINE)
STYLES = ("panel", "header", "messages", "compose")  # in the order in which they apply


def joined_modules(name: str = "panel", folder: Path = PAGE_FOLDER) -> str:
    """Return a module with all that it imports, each before what needs it, as one module without imports."""
    order: dict[str, str] = {}

    def add(each: str) -> None:
        if each not in order:
            order[each] = ""  # not again, if two modules import each other
            source = (folder / f"{each}.js").read_text(encoding="utf-8")
            for needed in IMPORT.findall(source):
                add(needed)
            del order[each]
            order[each] = EXPORT.sub("", IMPORT.sub("", source))

    add(name)
    return "\n".join(order.values())


def joined_styles(folder: Path = PAGE_FOLDER) -> str:
    """Return the style sheet."""
    return "\n".join((folder / f"{name}.css").read_text(encoding="utf-8") for name in STYLES)
