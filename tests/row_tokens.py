"""How many tokens of a row's prompt are its own, counted by a real llama.cpp server."""

import httpx


async def own_tokens(endpoint, template, rows):
    """Return, for each row, how many tokens of its prompt are not those that all rows begin with."""
    headers = {"authorization": f"Bearer {endpoint.api_key}"}
    root = endpoint.url.removesuffix("/v1")
    prompts = []
    async with httpx.AsyncClient(headers=headers, timeout=60) as http:
        for row in rows:
            rendered = await http.post(f"{root}/apply-template", json={"messages": template.messages(row)})
            body = {"content": rendered.json()["prompt"], "add_special": True, "parse_special": True}
            prompts.append((await http.post(f"{root}/tokenize", json=body)).json()["tokens"])
    shared = next(at for at, tokens in enumerate(zip(*prompts, strict=False)) if len(set(tokens)) > 1)
    return [len(prompt) - shared for prompt in prompts]
