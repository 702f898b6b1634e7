"""From the bytes of a stream to the parts of a reply: text, reasoning, calls, what it cost. Pure."""
