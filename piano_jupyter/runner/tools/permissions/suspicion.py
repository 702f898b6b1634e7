"""What looks like reaching for keys or the network in a command: not to stop it, but for people to see it."""

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
    """Return what a command seems to reach for, for people; None where nothing of the kind is seen."""
    plain = re.sub(r"""['"\\]""", "", command)
    reaches = [
        f"{what} ({found[0]})"
        for what, sign in (("keys", KEYS), ("the network", NETWORK))
        if (found := sign.search(plain))
    ]
    return f"it reaches for {' and '.join(reaches)}" if reaches else None
