"""Text that steers a terminal, or misleads who reads it there, for tests of what goes to one."""

import re

#: Clear the screen, a title, the clipboard, concealed text, the same with C1 controls; then line and direction tricks.
HOSTILE = (
    "a\x1b[2J\x1b]0;owned\x07b\x1b]52;c;cm0gLXJm\x1b\\c\x1b[8mhidden\x1b[0m\x9b2J\x9d0;owned\x9c"
    "d\rover\x08\x08\x7f \u202eevil\u202c \u2066x\u2069 \u200b\ufeff\xad \U000e0041\U000e0042 end"
)
#: Anything of it that a terminal would obey; the terminal's own line end is \r\n.
OBEYED = re.compile(
    "\x1b\\[(?:2J|8m)|\x1b\\]|\x9b|\x9d|\x9c|\x07|\x08|\x7f|\r(?![\r\n])|[\u202a-\u202e\u2066-\u2069\u200b\ufeff\xad]|\U000e0041"
)
#: Ordinary text, in languages that need joiners and selectors, and emoji that are made with them.
ORDINARY = (
    "plain é 漢字\ttab\n 10 000 € « x »　全角 می‌خواهم क्‍ष 葛󠄀 e\u0301 ᠮᠣᠩ᠋ ⠀⠁ ┌─┐ 👩🏽‍❤️‍👨 👨‍👩‍👧‍👦 🏳️‍🌈 ❤️ 1️⃣ #️⃣ 🏴󠁧󠁢󠁷󠁬󠁳󠁿 🏴‍☠️ 🇩🇪\n"
)
