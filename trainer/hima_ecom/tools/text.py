"""Text utilities."""

from typing import Annotated, Any, Literal

from trainer.hima_ecom.overlay import Overlay
from trainer.hima_ecom.tools.registry import Arg, tool

Text = Annotated[str, Arg("the text", max_length=2000)]


@tool("gfc")
def count_words(store: Overlay, *, text: Text) -> dict[str, Any]:
    """Count the words (separated by white space), characters and lines of a text."""
    return {"words": len(text.split()), "characters": len(text), "lines": len(text.splitlines())}


@tool("gfc")
def change_case(
    store: Overlay, *, text: Text, to: Annotated[Literal["upper", "lower", "title"], Arg("the case wanted")]
) -> dict[str, Any]:
    """Write a text in upper, lower or title case."""
    return {"text": {"upper": str.upper, "lower": str.lower, "title": str.title}[to](text)}


@tool("gfc")
def reverse_text(
    store: Overlay, *, text: Text, by: Annotated[Literal["characters", "words"], Arg("what is reversed")] = "characters"
) -> dict[str, Any]:
    """Reverse a text by characters or by words."""
    return {"text": text[::-1] if by == "characters" else " ".join(reversed(text.split()))}


@tool("gfc")
def sort_lines(
    store: Overlay,
    *,
    lines: Annotated[list[str], Arg("the lines", max_items=100)],
    descending: Annotated[bool, Arg("from z to a")] = False,
    unique: Annotated[bool, Arg("each line once")] = False,
) -> dict[str, Any]:
    """Sort lines alphabetically, without regard to case."""
    chosen = list(dict.fromkeys(lines)) if unique else lines
    return {"lines": sorted(chosen, key=lambda line: (line.casefold(), line), reverse=descending)}
