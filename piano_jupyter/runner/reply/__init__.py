"""From the bytes of a stream to the parts of a reply: events, calls, reasoning, what it cost. Pure, all of it."""
