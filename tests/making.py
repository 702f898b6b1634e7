"""Short ways to make records, for tests."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from piano_jupyter.records import Agent, CallStatus, Job, Message, ToolCall

START = datetime(2026, 1, 1, tzinfo=UTC)


class Make:
    """Makes records with ids 1, 2, 3 and times a second apart."""

    def __init__(self):
        self._count = 0

    def _next(self):
        self._count += 1
        return {"id": UUID(int=self._count), "inserted_at": START + timedelta(seconds=self._count)}

    def agent(self, name="ada", **fields):
        return Agent(**self._next(), name=name, **{"model": "m", **fields})

    def message(self, content, role="user", **fields):
        made = self._next()
        return Message(**made, **{"thread_id": UUID(int=0), "seq": self._count, **fields}, role=role, content=content)

    def job(self, message, agent, **fields):
        thread = {"thread_id": message.thread_id, "model": agent.model, "seq": self._count}
        return Job(**self._next(), message_id=message.id, agent_id=agent.id, **{**thread, **fields})

    def call(self, message, name="add", result="2", **fields):
        made = self._next()
        status = CallStatus.OK if result is not None else CallStatus.STARTED
        kept = {"arguments": {}, "seq": self._count, "status": status, "result": result, **fields}
        return ToolCall(id=made["id"], started_at=made["inserted_at"], message_id=message.id, name=name, **kept)
