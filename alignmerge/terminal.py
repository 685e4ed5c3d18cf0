"""Text from outside, made safe to print."""

_BIDIRECTIONAL = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """`text` with control and bidirectional characters escaped, so a hostile name cannot drive the terminal."""

    def shown(char: str) -> bool:
        return char == "\n" or (char.isprintable() and char not in _BIDIRECTIONAL)

    return "".join(char if shown(char) else char.encode("unicode_escape").decode() for char in text)
