"""Text from outside, escaped for where it goes: one function for each place.

What files, models, tools and memory hold may look like markup, like orders to a terminal, or like the next line of a prompt.
"""

from html import escape
from unicodedata import category


def for_html(text: object) -> str:
    """For the text of an HTML page or SVG, and for an attribute in quotes. Characters that such a page may not hold (controls,
    unpaired surrogates) become U+FFFD."""
    return escape("".join("�" if _is_unfit(letter) else letter for letter in str(text)))


def for_terminal(text: object) -> str:
    """For a line of a terminal: white space becomes a space, and what does not print a question mark, so that nothing is taken
    for an order (escape sequences, changes of direction)."""
    return "".join(letter if letter.isprintable() else " " if letter.isspace() else "?" for letter in str(text))


def lines_for_terminal(text: object) -> str:
    """The same for a text of several lines."""
    return "\n".join(map(for_terminal, str(text).split("\n")))


def for_line(text: str) -> str:
    """For a line of a prompt: what would begin another line is a space."""
    return " ".join(text.splitlines())


def for_utf8(text: str) -> str:
    """For bytes and tokenizers: unpaired surrogates, for which UTF-8 has no bytes, are question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def for_json(text: str) -> str:
    """JSON that any file and terminal can hold: characters that do not print, and unpaired surrogates, as \\u escapes. Outside
    its strings JSON has none but line breaks, which stay."""
    if text.isprintable():
        return text
    kept = "\n\t\r"
    return "".join(
        letter if letter.isprintable() or letter in kept or category(letter) == "Zs" else _escaped(letter) for letter in text
    )


def _is_unfit(letter: str) -> bool:
    return (letter < " " and letter not in "\n\t\r") or "\x7f" <= letter <= "\x9f" or "\ud800" <= letter <= "\udfff"


def _escaped(letter: str) -> str:
    code = ord(letter)
    if code > 0xFFFF:  # JSON has pairs of surrogates for these
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
    return f"\\u{code:04x}"
