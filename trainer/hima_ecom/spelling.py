"""When two texts are the same but for how they are written."""


def plain(text: str) -> str:
    """A text without regard to capitals, to how wide its spaces are, and to a mark at its end."""
    return " ".join(text.casefold().split()).rstrip(".!。！").rstrip()
