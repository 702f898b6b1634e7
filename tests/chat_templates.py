"""The chat templates that llama.cpp ships, and a renderer that treats them as Hugging Face and llama.cpp do.

They come out of the source archive of `llama-cpp-python`, fetched once into the user's cache: nothing of it is built or
installed.
"""

import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from datetime import datetime
from pathlib import Path

import platformdirs
from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.sandbox import SandboxedEnvironment

ARCHIVE = "llama-cpp-python==0.3.36"
MEMBERS = "vendor/llama.cpp/models/templates/"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"{name} something.",
            "parameters": {
                "type": "object",
                "properties": {
                    "path": {"type": "string", "description": "Where."},
                    "lines": {"type": "integer", "description": "How many."},
                },
                "required": ["path"],
            },
        },
    }
    for name in ("edit_file", "read_file")
]


def chat_templates():
    """Return the templates' texts by name. Raises OSError or subprocess.CalledProcessError where none can be had."""
    folder = Path(platformdirs.user_cache_dir("piano_jupyter"), f"chat-templates-{ARCHIVE.rpartition('=')[2]}")
    if not folder.is_dir():
        _fetch(folder)
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.jinja"))}


def _fetch(folder):
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir", "--dest", work]
        subprocess.run([*pip, "--no-binary=llama-cpp-python", ARCHIVE], check=True, capture_output=True, timeout=200)
        unpacked = Path(work, "templates")
        unpacked.mkdir()
        with tarfile.open(next(Path(work).glob("*.tar.gz"))) as archive:
            for member in archive:
                if MEMBERS in member.name and member.name.endswith(".jinja"):
                    with archive.extractfile(member) as packed, (unpacked / Path(member.name).name).open("wb") as plain:
                        shutil.copyfileobj(packed, plain)
        if not folder.is_dir():  # another process was quicker
            unpacked.rename(folder)


class Generation(Extension):
    """`{% generation %}` marks what a model is trained to write; to render, it is nothing."""

    tags = frozenset({"generation"})

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.Scope(body, lineno=line)


class ChatTemplate:
    """A template, and what llama.cpp finds out about it before it is used (`common/jinja/caps.cpp`)."""

    def __init__(self, text):
        environment = SandboxedEnvironment(  # as llama.cpp, it lets a template append to its lists
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation]
        )
        environment.filters["tojson"] = _as_json
        environment.globals |= {"raise_exception": _refuse, "strftime_now": datetime(2026, 1, 1).strftime}  # noqa: DTZ001
        self._template = environment.from_string(text)
        self._objects, self._parts, self._system = True, False, True
        called = _call("call00001", "read_file", {"path": "MARK"})
        talk = [_said("user", "hi"), called, _result("call00001", "ok"), _said("assistant", "ok"), _said("user", "hi")]
        self.lacks_tools = "edit_file" not in self._attempt(talk)
        self._objects = "MARK" in self._attempt(talk)
        self._parts = "MARK" not in self._attempt([_said("user", "MARK")])
        self._system = "MARK" in self._attempt([_said("system", "MARK"), _said("user", "hi")])

    def render(self, messages, *, tools=TOOLS, answering=True):
        """Return the prompt. Raises what the template raises."""
        return self._template.render(
            messages=self._adapted(messages),
            **({"tools": list(tools)} if tools else {}),
            functions=json.dumps(tools or []),  # Firefunction's own name for them
            datetime="",
            add_generation_prompt=answering,
            bos_token="",
            eos_token="",
        )

    def _attempt(self, messages):
        try:
            return self.render(messages)
        except Exception:  # noqa: BLE001  A template fails in many ways.
            return ""

    def _adapted(self, messages):
        messages = json.loads(json.dumps(messages))
        if not self._system and messages and messages[0]["role"] == "system":
            first, *messages = messages
            if messages and messages[0]["role"] == "user" and isinstance(messages[0]["content"], str):
                messages[0]["content"] = f"{first['content']}\n{messages[0]['content']}"
            else:
                messages.insert(0, {**first, "role": "user"})
        for message in messages:
            if message.get("tool_calls") and message.get("content") is None:
                message["content"] = ""
            if self._parts and isinstance(message.get("content"), str):
                message["content"] = [{"type": "text", "text": message["content"]}]
            for call in message.get("tool_calls") or () if self._objects else ():
                function = call["function"]
                if isinstance(function["arguments"], str):
                    function["arguments"] = json.loads(function["arguments"])
        return messages


def _as_json(value, indent=None, **_):
    return json.dumps(value, ensure_ascii=False, indent=indent, default=list)  # a generator is a list to llama.cpp


def _refuse(sentence):
    raise TemplateError(sentence)


def _said(role, content):
    return {"role": role, "content": content}


def _call(identity, name, arguments):
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": identity, "type": "function", "function": function}],
    }


def _result(identity, content):
    return {"role": "tool", "tool_call_id": identity, "content": content}
