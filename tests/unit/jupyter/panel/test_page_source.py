import re
from collections import Counter

import pytest

from piano_jupyter.jupyter.panel.page_source import PAGE_FOLDER, joined_modules, joined_styles, module_file

MAX_LINES = 400
DEFINED = re.compile(r"^(?:export )?(?:async )?(?:function|class|const|let)\s+(\w+)", re.MULTILINE)
NAMES = re.compile(r'^import \{([^}]*)\} from "\./(\w+)\.js";', re.MULTILINE)
MODULES = [*sorted(PAGE_FOLDER.glob("*.js")), module_file("renewed")]


def test_every_module_is_in_the_page_once_and_before_what_needs_it():
    page = joined_modules()

    positions = {file.stem: page.find(file.read_text().splitlines()[0]) for file in MODULES}
    assert -1 not in positions.values()
    assert "import " not in re.sub(r"^\s*//.*", "", page, flags=re.MULTILINE)
    assert re.findall(r"^export .*", page, re.MULTILINE) == ["export default {"]
    for file in MODULES:
        for _, needed in NAMES.findall(file.read_text()):
            assert positions[needed] < positions[file.stem]


def test_no_two_modules_define_the_same_name():
    names = Counter(name for file in MODULES for name in DEFINED.findall(file.read_text()))

    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("file", MODULES, ids=lambda file: file.stem)
def test_a_module_imports_what_others_export_and_is_short(file):
    source = file.read_text()

    for names, needed in NAMES.findall(source):
        for name in filter(None, map(str.strip, names.split(","))):
            assert re.search(rf"^export .*\b{name}\b", module_file(needed).read_text(), re.MULTILINE)
    assert source.startswith("// ")
    assert source.count("\n") <= MAX_LINES


def test_every_style_sheet_is_in_the_page():
    page = joined_styles()

    assert [file.name for file in PAGE_FOLDER.glob("*.css") if file.read_text() not in page] == []
