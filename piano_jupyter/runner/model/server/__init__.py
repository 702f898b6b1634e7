"""The server that answers: which one it is, the way to it, what its errors mean."""
