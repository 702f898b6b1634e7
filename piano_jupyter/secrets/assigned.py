"""Finds secrets by the name that they are assigned to (`password=…`, `"api_key": "…"`). Pure, linear in the length.

Code assigns, too: what reads like a name, a call or a placeholder (`password=None`, `token=token`) is no secret.
"""

import re
from itertools import pairwise

ASSIGNMENT = re.compile(r"[:=][ \t]{0,3}>?[ \t]{0,3}\\?[\"'`]?(?P<secret>[\w+/.~!@%^&*#-]{8,}={0,2})", re.ASCII)
SECRET_WORDS = ("passw", "passphrase", "secret", "credential", "token", "key")
SECRET_KEYS = (
    "api",
    "access",
    "account",
    "auth",
    "private",
    "service",
)  # other keys, for example of a dict, are no secrets
PAGE_TOKENS = ("page", "next", "continuation", "sync")  # their tokens mark a position, and are no secrets
AFTER_NAME = re.compile(r"[\w-]{3,40}\\?[\"'\]]{0,2}[ \t]{0,3}[:=]?", re.ASCII)
KEY_NAME = re.compile(r"(?:secret|token|key)\\?[\"']?\]?[ \t]{0,3}\Z", re.IGNORECASE)
ENV_SETTING = re.compile(r"(?:\A|\n)(?:export )?[A-Z0-9_]{0,60}(?:PASS|PASSWD|PASSWORD|PASSPHRASE|SECRET|TOKEN|KEY)\Z")
REFERENCE = re.compile(r"[~./]|[a-z_]+(?:\.[a-z_]+)+\Z|\d+\Z|(?:true|false|none|null)\Z", re.IGNORECASE)
#: What else is no secret in code: a path, an address, a dotted name, a constant, a number.
NAME = re.compile(
    r"(?i:[a-z]:\\|arn:|\w+://|[a-z_]\w*(?:[.:][a-z_]\w*)+\Z|0x[\da-f]+\Z|(?:undefined|nil)\Z)|[A-Z0-9]*_[A-Z0-9_]*\Z"
)
PLACEHOLDER = re.compile(
    r"(?:[a-z0-9]+[_-])*(?:my|your|the|a|db|new|old|user)?(?:password|passphrase|passwd|pwd|pass|secret|token|key|value)s?"
    r"[_-]?\d{0,2}|required|optional|string|hidden|prompt|getpass|default|unset|empty|change-?me|example|x+|\*+|\.+",
    re.IGNORECASE,
)

#: A password in code, a connection string, a URL, a command line or a file of settings; its value may be quoted.
PASSWORD = re.compile(
    r"(?P<keep>(?i:passw(?:or)?d|passphrase|pwd)"
    r"(?:\\?[\"']\]?[ \t]{0,3}[:=]|[ \t]{0,3}=(?!=))[ \t]{0,3})"
    r"(?:(?P<quote>\\?[\"'])(?P<quoted>[^\"'\\\n…]{6,200}+)(?=\\?[\"'])"
    r"|(?P<bare>[^\s\"'`,;&<>(){}\[\]\\…]{6,}+)(?![(\[{…]))"
)
#: What an expression or a template begins with, and what it holds.
EXPRESSION = re.compile(r"[$<{%(*\[]|.*(?:\$\{|\$\(|\{\w*\}|%\()")
SPECIAL = re.compile(r"[!@#$%^*~?-]|(?<=\w)[+/](?=\w)")
BEFORE_SETTING = re.compile(r"(?:\A|[\n;&?]|--|=\S{1,80}[ ])[\w-]{0,40}\Z")
AFTER_SETTING = re.compile(r"[ \t]{0,3}(?:[\n;&\"']|--|\w{1,40}=|\Z)")


def without_assigned_secrets(text: str, mask: str) -> str:
    """Return a text with `mask` in place of each value that is assigned to the name of a secret."""

    def masked(found: re.Match[str]) -> str:
        kept = found[0][: found.start("secret") - found.start()]
        return kept + mask if _is_secret(found) else found[0]

    def without_password(found: re.Match[str]) -> str:
        return found["keep"] + (found["quote"] or "") + mask if _is_password(found) else found[0]

    if "=" not in text and ":" not in text:
        return text
    return ASSIGNMENT.sub(masked, PASSWORD.sub(without_password, text))


def looks_random(value: str) -> bool:
    """Return whether a value looks random: its characters often change between digits, upper and lower case."""
    value = value[:64]
    kinds = ["0" if each.isdigit() else "a" if each.islower() else "A" if each.isupper() else "" for each in value]
    changes = sum(one + two in {"aA", "a0", "A0", "0a", "0A"} for one, two in pairwise(kinds))
    length = len(value)
    return length >= (16 if "0" in kinds else 24) and changes * (4 if "0" in kinds else 5) >= length


def is_placeholder(value: str) -> bool:
    """Return whether a value only says that a secret belongs there, or names a variable that holds it."""
    return PLACEHOLDER.fullmatch(value.removesuffix("?")) is not None


def _is_secret(found: re.Match[str]) -> bool:
    """Return whether a value is assigned to something with the name of a secret, and is no expression."""
    before, value = found.string[max(0, found.start() - 80) : found.start()], found["secret"]
    at = max(map(before.lower().rfind, SECRET_WORDS))
    if at < 0:
        return False
    sign = found[0][: found.start("secret") - found.start()]
    if sign[0] == "=" and len(sign) <= 2 and ENV_SETTING.search(before) and not REFERENCE.match(value):
        return True
    if not _is_secrets_name(before.lower(), at):
        return False
    is_assigned = sign[0] == "=" and KEY_NAME.search(before)
    is_call = found.string.startswith(("(", "[", "{"), found.end())
    return looks_random(value) or bool(is_assigned and not is_call and _is_literal(value))


def _is_literal(value: str) -> bool:
    """Return whether a value of code has digits and letters, as a key has, and is no name."""
    has_both = any(map(str.isdigit, value)) and any(map(str.isalpha, value))
    is_name = REFERENCE.match(value) or NAME.match(value) or EXPRESSION.match(value) or is_placeholder(value)
    return has_both and not is_name


def _is_password(found: re.Match[str]) -> bool:
    value = found["quoted"] or found["bare"]
    if EXPRESSION.match(value) or is_placeholder(value):
        return False
    if value.isdigit():
        return True
    if REFERENCE.match(value) or NAME.match(value):
        return False
    if any(map(str.isdigit, value)):
        return True
    if found["quoted"]:
        return " " not in value and (not value.islower() or SPECIAL.search(value) is not None)
    if SPECIAL.search(value):
        return True
    is_setting = "=" in found["keep"] and not found["keep"].endswith((" ", "\t"))
    before = found.string[max(0, found.start() - 130) : found.start()]
    return is_setting and bool(BEFORE_SETTING.search(before)) and bool(AFTER_SETTING.match(found.string, found.end()))


def _is_secrets_name(before: str, at: int) -> bool:
    """Return whether the text before a value, in lower case, ends with the name of a secret that has a word `at`."""
    owner = before[:at].rstrip("_-")
    if before.startswith("key", at) and not owner.endswith(SECRET_KEYS):
        return False
    return AFTER_NAME.fullmatch(before, at) is not None and not owner.endswith(PAGE_TOKENS)
