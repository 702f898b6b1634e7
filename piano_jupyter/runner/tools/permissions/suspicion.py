"""Finds signs in a command that it accesses keys or the network, to warn people, not to stop it."""

import re

KEYS = re.compile(
    r"\.ssh\b|\bid_(rsa|ed25519|ecdsa)\b|\.(aws|gnupg|kube|netrc|npmrc|pypirc|env)\b"
    r"|/proc/[^ /]{1,40}/environ\b|\bprintenv\b|/etc/shadow\b|[A-Z]_?(API_?KEY|TOKEN|SECRET|PASSWORD)\b"
)
NETWORK = re.compile(
    r"(?<![.\w-])(curl|wget|nc|ncat|netcat|telnet|ssh|scp|sftp|rsync|ftp|socat)\b|/dev/(tcp|udp)/|\bhttps?://"
    r"|\b(urllib|requests|httpx|socket)\b",
    re.IGNORECASE,
)


def suspicion(command: str) -> str | None:
    """Return a warning about what a command seems to access, None if there is nothing."""
    plain = re.sub(r"""['"\\]""", "", command)
    accessed = [
        f"{what} ({found[0]})"
        for what, sign in (("keys", KEYS), ("the network", NETWORK))
        if (found := sign.search(plain))
    ]
    return f"it accesses {' and '.join(accessed)}" if accessed else None
