"""What a command may do under rules."""

import pytest

from piano_jupyter.runner.tools.permissions.policy import judge
from piano_jupyter.tool import Tool


@pytest.fixture
def verdict(tmp_path):
    """Return the verdict on a command, which a tool runs that would ask."""
    schema = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
    shell = Tool(name="bash", description="bash", parameters=schema, function=str, subject="command", asks=True)

    def make(command, *rules):
        return judge(shell, {"command": command}, mode="write", rules=rules, workspace=str(tmp_path)).verdict

    return make
