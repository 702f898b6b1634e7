"""Awkward histories, rendered by every chat template that llama.cpp ships."""

import json
from collections import Counter

from awkward import HISTORIES, kept
from chat_templates import TOOLS

from piano_jupyter.clock import Clock
from piano_jupyter.errors import PianoError
from piano_jupyter.export import imported
from piano_jupyter.runner.model.protocol import ChatRequest
from piano_jupyter.runner.model.stream.constrained_calls import constrained_request
from piano_jupyter.runner.turn.prompt import chat_messages


def sent(template, messages):
    """Return what is sent to a model with such a template."""
    request = ChatRequest(model="m", messages=messages, tools=TOOLS)
    return constrained_request(request) if template.lacks_tools else request


def failures(templates, histories, prepared):
    failed = []
    for history, messages in histories.items():
        for name, template in templates.items():
            try:
                request = prepared(template, messages)
                template.render(request.messages, tools=request.tools)
            except Exception as error:  # noqa: BLE001  A template fails in many ways.
                failed.append((history, name, str(error)))
    return failed


def test_i1_every_template_renders_every_awkward_history(templates, make):
    ada = make.agent(system_prompt="Be kind.")
    records = {name: kept(make, ada, messages) for name, messages in HISTORIES.items()}
    ours = {name: chat_messages(ada, "", *told, {}) for name, told in records.items()}

    raw = failures(templates, HISTORIES, lambda _, messages: ChatRequest(model="m", messages=messages, tools=TOOLS))
    failed = failures(templates, ours, sent)

    worst = ", ".join(f"{name} {count}" for name, count in Counter(name for name, _, _ in raw).most_common(5))
    print(f"{len(HISTORIES)} histories, {len(templates)} templates: {len(raw)} fail as they are ({worst})")
    assert len(HISTORIES) >= 29
    assert len(templates) >= 68
    assert len(raw) > 100
    assert failed == []


def test_i1_what_is_imported_renders_too_and_the_rest_is_refused_by_name(templates, make):
    ada = make.agent()
    read, refused = {}, []
    for name, messages in HISTORIES.items():
        try:
            _, records, calls = imported(json.dumps({"messages": messages}), None, Clock(), [ada])
        except PianoError as error:
            refused.append(str(error))
        else:
            read[name] = chat_messages(ada, "", records, calls, {ada.id: ada.name})

    assert failures(templates, read, sent) == []
    assert len(read) > 25
    assert all("line 1" in sentence or "no conversation" in sentence for sentence in refused)
