"""Tools of MCP servers: programs and web services of others, which run with the user's rights outside the sandbox."""
