"""Ways to write the same text in Unicode: an accented letter is one character, or a letter and its accent. Pure."""

import unicodedata


def other_forms(text: str) -> list[str]:
    """Return the text with its accents composed and decomposed, as far as that differs from how it is written.

    File systems tell them apart, people cannot: a Mac writes names decomposed, a keyboard composed.
    """
    forms = (unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text))
    return [each for each in dict.fromkeys(forms) if each != text]


def comparable(text: str) -> str:
    """Return a text so that all ways to write it are equal, in upper or lower case, with any form of its accents."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
