"""The tools: those there are, what they may do, and the ones that ship."""
