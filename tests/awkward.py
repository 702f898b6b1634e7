"""Awkward histories: chat messages as clients and files have them, and the records that Piano would have of them."""

import json


def user(content, **more):
    return {"role": "user", "content": content, **more}


def said(content, **more):
    return {"role": "assistant", "content": content, **more}


def system(content):
    return {"role": "system", "content": content}


def call(identity, arguments='{"path": "a.txt"}', name="read_file"):
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(identity, content="one\ntwo"):
    return {"role": "tool", "tool_call_id": identity, "content": content}


HI, MORE = user("Read a.txt."), user("And now?")
ONE, TWO = call("call00001"), call("call00002", '{"path": "b.txt"}')

HISTORIES = {
    "plain": [HI, said("Done."), MORE],
    "system first": [system("Be kind."), HI],
    "second system": [system("Be kind."), system("Be brief."), HI],
    "system in the middle": [system("Be kind."), HI, said("Done."), system("Be brief."), MORE],
    "system last": [HI, system("Be brief.")],
    "only a system": [system("Be kind.")],
    "developer": [{"role": "developer", "content": "Be kind."}, HI],
    "user and user": [HI, MORE],
    "assistant first": [said("Hello!"), HI],
    "assistant and assistant": [HI, said("One."), said("Two."), MORE],
    "assistant last": [HI, said("Let me")],
    "text, then a call apart": [HI, said("Let me see."), said("", tool_calls=[ONE]), result("call00001"), MORE],
    "null content": [HI, said(None), MORE],
    "no content": [HI, {"role": "assistant"}, MORE],
    "empty user": [user(""), said("Yes?"), MORE],
    "empty assistant": [HI, said(""), MORE],
    "empty tool_calls": [HI, said("Done.", tool_calls=[]), MORE],
    "null tool_calls": [HI, said("Done.", tool_calls=None), MORE],
    "call with null content": [HI, said(None, tool_calls=[ONE]), result("call00001"), said("Done."), MORE],
    "call and result last": [HI, said("", tool_calls=[ONE]), result("call00001")],
    "call without a result": [HI, said("", tool_calls=[ONE]), MORE],
    "result, then the user": [HI, said("", tool_calls=[ONE]), result("call00001"), MORE],
    "null result": [HI, said("", tool_calls=[ONE]), result("call00001", None), MORE],
    "empty result": [HI, said("", tool_calls=[ONE]), result("call00001", ""), MORE],
    "orphan result": [HI, result("call00009"), said("Done."), MORE],
    "parallel calls": [
        HI,
        said("", tool_calls=[ONE, TWO]),
        result("call00001"),
        result("call00002"),
        said("Ok."),
        MORE,
    ],
    "results in another order": [HI, said("", tool_calls=[ONE, TWO]), result("call00002"), result("call00001"), MORE],
    "parallel, one result": [HI, said("", tool_calls=[ONE, TWO]), result("call00001"), MORE],
    "calls in a row": [
        HI,
        *(said("", tool_calls=[ONE]), result("call00001")),
        *(said("Again.", tool_calls=[TWO]), result("call00002"), said("Ok."), MORE),
    ],
    "cut arguments": [HI, said("", tool_calls=[call("call00001", '{"path": "a.t')]), result("call00001", "cut"), MORE],
    "empty arguments": [HI, said("", tool_calls=[call("call00001", "")]), result("call00001"), MORE],
    "arguments that are a list": [HI, said("", tool_calls=[call("call00001", "[1]")]), result("call00001"), MORE],
    "long ids": [HI, said("", tool_calls=[call("chatcmpl-tool-0a1b2c3d")]), result("chatcmpl-tool-0a1b2c3d"), MORE],
    "no ids": [HI, said("", tool_calls=[call(None)]), result(None), MORE],
    "one id twice": [HI, said("", tool_calls=[ONE, ONE]), result("call00001"), result("call00001"), MORE],
    "a tool that is not there": [
        HI,
        said("", tool_calls=[call("call00001", name="no such")]),
        result("call00001"),
        MORE,
    ],
    "parts": [user([{"type": "text", "text": "Read"}, {"type": "text", "text": "a.txt."}]), said("Done."), MORE],
    "parts in a result": [HI, said("", tool_calls=[ONE]), result("call00001", [{"type": "text", "text": "one"}]), MORE],
    "a name": [user("Read a.txt.", name="eve"), said("Done.", name="ada"), MORE],
    "reasoning": [HI, said("Done.", reasoning_content="Hm."), MORE],
}


def kept(make, agent, messages):
    """Return the records that Piano has of such a talk: messages, and calls with their results."""
    records, calls, open_calls, made = [], [], {}, {}
    for each in messages:
        content = each.get("content") or ""
        if isinstance(content, list):
            content = "\n".join(part["text"] for part in content)
        role = "system" if each["role"] == "developer" else each["role"]
        if role == "tool" and open_calls.get(each["tool_call_id"]):
            record = open_calls[each["tool_call_id"]].pop(0)
            calls[calls.index(record)] = make.call(made[record.id], record.name, content, arguments=record.arguments)
            continue
        author = {"agent_id": agent.id} if role == "assistant" else {}
        message = make.message(content, role, reasoning=each.get("reasoning_content", ""), **author)
        records.append(message)
        for asked in each.get("tool_calls") or ():
            record = make.call(
                message, asked["function"]["name"], None, arguments=_object(asked["function"]["arguments"])
            )
            calls.append(record)
            open_calls.setdefault(asked["id"], []).append(record)
            made[record.id] = message
    return records, calls


def _object(text):
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
