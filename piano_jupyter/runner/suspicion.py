"""Which commands reach for keys or for the network, by their words: a courtesy to people, the sandbox is what holds."""

import re

HOMES = r"(?:~\w*|\$\{?HOME\}?|/home/[\w.-]+|/root|/Users/[\w.-]+)"
KEYS = re.compile(
    HOMES + r"/\.(?:aws|azure|config|docker|gnupg|kube|mozilla|ssh|local/share/(?:jupyter|keyrings))\b"
    r"|(?<![\w-])\.(?:ssh/|aws/|gnupg/|netrc\b|git-credentials\b|pgpass\b|pypirc\b|env(?:\.\w+)?(?![\w/(]))"
    r"|\bid_(?:rsa|dsa|ecdsa|ed25519)\b"
    r"|/proc/[^\s/]*/(?:environ|mem|root)\b"
    r"|/etc/(?:shadow|sudoers|ssh)\b"
    r"|\.(?:bash|zsh|python)_history\b"
    r"|\$\{?\w*(?:API_?KEY|PASSWORD|SECRET|TOKEN)\w*"
)
PROGRAMS = "aria2c|curl|dig|ftp|host|nc|ncat|netcat|nslookup|ping|rsync|scp|sftp|socat|ssh|telnet|wget"
BEFORE = r"(?:^|[|;&(`{\n]|\b(?:busybox|command|env|exec|nohup|sudo|time|timeout|xargs)\s(?:\s*-?[\w=.]+\s)*?)\s*"
NETWORK = re.compile(
    BEFORE + rf"(?:[\w./~-]*/)?(?P<program>{PROGRAMS})(?=\s|$|[;&|)`}}])"
    r"|(?P<device>/dev/(?:tcp|udp)/)"
    r"|(?P<fetch>\bgit\s+(?:-\S+\s+)*(?:clone|fetch|ls-remote|pull|push)\b|\b(?:pip3?|npm|yarn|cargo|apt(?:-get)?)\s+install\b)"
    r"|(?P<python>\b(?:import|from)\s+(?:aiohttp|ftplib|http\.client|httpx|requests|smtplib|socket|urllib)\b)"
    r"|(?P<address>\b(?:https?|ftp)://[^\s'\"]{1,80})"
)


def suspicion(command: str) -> str | None:
    """Return what a command reaches for, as a sentence; None if its words tell of nothing."""
    plain = re.sub(r"\\\n|\\(?=\w)|(?<=\w)(?:''|\"\")(?=\w)", "", command)  # c""url and c\url are curl, too
    keys, network = KEYS.search(plain), NETWORK.search(plain)
    reasons = []
    if keys:
        reasons.append(f"keys ({keys[0].strip()})")
    if network:
        words = next(each for each in network.groups() if each)
        reasons.append(f"the network ({' '.join(words.split())})")
    return f"it reaches for {' and '.join(reasons)}" if reasons else None
