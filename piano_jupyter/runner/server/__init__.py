"""The server that answers: which one it is, the way to it, what it says of its models, what its refusals mean."""
