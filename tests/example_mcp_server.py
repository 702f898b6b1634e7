"""A server of the MCP SDK's own over streamable HTTP: python example_mcp_server.py PORT."""

import sys

from mcp.server.mcpserver import Context, Image, MCPServer
from tiny_mcp_server import PNG

server = MCPServer("example")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def headers(ctx: Context) -> dict[str, str]:
    """Return the headers of the request."""
    return dict(ctx.request_context.request.headers)


@server.tool()
def picture() -> Image:
    """Return a picture."""
    return Image(data=PNG, format="png")


@server.tool()
async def count(ctx: Context) -> str:
    """Count to two."""
    await ctx.report_progress(1, 2, "one")
    await ctx.report_progress(2, 2, "two")
    return "two"


@server.resource("docs://readme")
def readme() -> str:
    """Return the readme."""
    return "Read me."


@server.prompt()
def greet(name: str) -> str:
    """Greet somebody."""
    return f"Greet {name}."


if __name__ == "__main__":
    server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
