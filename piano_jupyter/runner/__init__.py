"""One turn: ask the model, run the tools that it calls, ask again, until it answers. It keeps nothing.

turn      the loop, its prompt and what ends it; begin with `run_turn.py`
skills    what an agent was told of how things are done
tools     what a model may call, and whether it may
model     the way to the model, and from its stream to a reply
schema    arguments and answers, against a JSON Schema
"""
