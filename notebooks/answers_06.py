"""What the model says in `06_ask_a_table.ipynb`: written by hand, for a scripted server that plays the model.

The rows are asked at once, so that an answer is found by the review that it is about, not by its place.
"""

import json
from typing import Any

RATINGS = {
    "Strong and malty": (5, "taste"),
    "arrived with a dent": (4, "delivery"),
    "Three weeks": (1, "delivery"),
    "Tastes of soap": (1, "taste"),
    "My grandmother": (5, "taste"),
    "Ten out of ten": (10, "other"),  # more than there are, however often it is asked
    "A little dear": (4, "price"),
    "It is tea": (3, "other"),
}
LETTERS = {
    "Three weeks": "We are sorry that you waited so long for the wrong tea: the right one is on its way.",
    "Tastes of soap": "We are sorry: bergamot is not for everyone, so please choose any other tea, on us.",
}


def answer(request: dict[str, Any]) -> str:
    """Return the answer about the review that a request has in it."""
    asked = "\n".join(message["content"] for message in request["messages"] if message["role"] == "user")
    if "response_format" not in request:
        return next(letter for about, letter in LETTERS.items() if about in asked)
    stars, topic = next(rating for about, rating in RATINGS.items() if about in asked)
    return json.dumps({"stars": stars, "topic": topic})
