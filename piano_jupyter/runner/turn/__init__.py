"""One turn: ask the model, run the tools that it calls, ask again, until it answers."""
