"""ISO dates as strings: they sort as text and never meet a clock."""

from datetime import date, timedelta


def before(day: str, days: int) -> str:
    """The date `days` before `day`."""
    return (date.fromisoformat(day) - timedelta(days=days)).isoformat()


def after(day: str, days: int) -> str:
    """The date `days` after `day`."""
    return before(day, -days)
