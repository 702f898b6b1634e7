"""Test your agents and tools without a language model: a model and a server that give the replies of a script.

`%piano help testing` shows the manual page. Nothing in the package imports this.
"""

from piano_jupyter.runner.model.protocol import ChatRequest, Delta, Reply
from piano_jupyter.testing.script import echo, tool_call
from piano_jupyter.testing.scripted_model import ScriptedModel
from piano_jupyter.testing.scripted_server import ScriptedServer, ServerReply

__all__ = ["ChatRequest", "Delta", "Reply", "ScriptedModel", "ScriptedServer", "ServerReply", "echo", "tool_call"]
