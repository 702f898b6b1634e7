"""A conversation as a page of its own: everything is in it, figures included, and nothing in it runs or is fetched."""

import asyncio
from html import escape
from typing import TYPE_CHECKING

from piano_jupyter.jupyter.render.transcript import Transcript

if TYPE_CHECKING:
    from piano_jupyter.piano import Piano
    from piano_jupyter.records import Thread

#: Also what the sanitizer might overlook is neither run nor fetched by a browser.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
STYLE = """
:root { color-scheme: light dark }
body { max-width: 56rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif }
body { overflow-wrap: anywhere }
pre { overflow-x: auto; white-space: pre-wrap }
table { border-collapse: collapse }
td, th { border: 1px solid #8886; padding: .2rem .5rem }
"""


async def thread_page(piano: "Piano", thread: "Thread") -> str:
    """Return a thread as an HTML file, with all its attachments. Raises StoreError."""
    messages = await piano.with_content(await piano.messages(thread))
    calls = await piano.with_content(await piano.tool_calls(thread))
    names = {agent.id: agent.name for agent in await piano.agents(deleted=True)}
    return await asyncio.to_thread(html_page, Transcript(thread.title, messages, calls, names))


def html_page(transcript: Transcript) -> str:
    """Return a conversation as an HTML file."""
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width">
<title>{escape(transcript.title)}</title>
<style>{STYLE}</style>
</head>
<body>
{transcript._repr_html_()}
</body>
</html>
"""
    return page.encode(errors="replace").decode()
