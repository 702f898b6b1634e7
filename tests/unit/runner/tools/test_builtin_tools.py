"""The built-in tools."""

from piano_jupyter.config import PianoConfig
from piano_jupyter.runner.tools.bash.bash_tool import BashTool
from piano_jupyter.runner.tools.files.file_tools import file_tools


def test_there_are_four_built_in_tools_and_none_asks_about_each_call(tmp_path):
    config = PianoConfig(workspace=str(tmp_path))
    tools = [*file_tools(config), BashTool(config).tool()]

    assert {each.name: each.asks for each in tools} == {
        "read_file": False,
        "create_file": False,
        "edit_file": False,
        "bash": False,
    }
    assert all("example" in each.description for each in tools)
