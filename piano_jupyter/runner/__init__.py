"""The thinking: ask the model, run the tools that it calls, ask again, until it answers. It keeps nothing.

Begin with `turn.py`; what it asks goes through `asking.py` and `prompt.py` to `llm.py`, what comes back through
`wire.py`, the calls in it to `caller.py` and `tools.py`. The folders are what these are made of:

    server      which server answers, the way to it, what it says of its models
    reply       from a stream's bytes to text, reasoning and calls
    values      arguments and answers, against a JSON Schema
    files       read_file, create_file, edit_file
    bash        the tool bash, and its sandbox
    commands    what a command line holds, for `policy.py`
"""
