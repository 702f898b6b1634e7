"""A conversation as a page of its own: everything is in it, figures included, and nothing in it runs or is fetched."""

from html import escape

from piano_jupyter.jupyter.render.transcript import Transcript

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
