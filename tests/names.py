"""Names of folders that people use and that some program takes for something else."""

NAMES = {
    "space": "a  b",
    "leading space": " a",
    "quote": "it's",
    "double quotes": '"q"',
    "percent": "100% done",
    "code of a slash": "job%2F7",
    "code of a letter": "%41",
    "question mark": "what?",
    "hash": "#1",
    "ampersand": "R&D",
    "plus": "a+b",
    "at": "anna@corp",
    "colons and at": "x:y@z",
    "bracket": "[",
    "markup": "[b] [x]",
    "emoji's name": ":cat:",
    "braces": "{y} {0}",
    "dollar": "$HOME",
    "backslash": "back\\slash",
    "backquote": "`id`",
    "no Latin letters": "日本語 Журнал",
    "two ways to write a letter": "e\u0301é",
    "emoji": "🐱👩\u200d💻",
    "dash": "-x",
    "two dashes": "--force",
    "newline": "new\nline",
    "escape": "\x1b[31mred",
    "address": "sqlite:",
    "header": "Basic training",
}
"""Names by what is special in them."""

DECODED = ("code of a slash", "code of a letter")
"""Those in which a program finds %-codes."""

NOT_UTF8 = b"\xff\xfe".decode(errors="surrogateescape")
"""A name that is no text, which Linux allows."""
