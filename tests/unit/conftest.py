"""What the unit tests share: a scripted model."""

import pytest

from piano_jupyter.testing import ScriptedModel, tool_call


@pytest.fixture
def scripted():
    """`scripted(step, ...)` is a model with this script."""
    return lambda *script: ScriptedModel(script)


@pytest.fixture
def asks_for():
    """`asks_for("add", a=1)` is a call, for the script of a model."""
    return tool_call
