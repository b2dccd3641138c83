"""Requests between submission and end, and what becomes of them when an exception cuts a call off.

Any exception may end a call at any line: Ctrl-C in a notebook does. So nothing repairs what was left half done. A call marks
the engine as being changed until it is through. An engine that carries the mark of a call that was cut off throws its
schedulers and prefix caches away, makes new ones, and ends all requests with an error: at once, or, where the clean-up was cut
off as well, at the next call.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from trainer.engine.base import Finished
from trainer.engine.lane import Lane
from trainer.engine.requests import Request


class InFlight:
    """The requests of an engine, by number.

    open: those that wait or run, and the lane they are in. ended: those that nobody was told of yet.

    Args: renew: brings everything that computes back to its beginning, in whatever state it is.
    """

    def __init__(self, renew: Callable[[], None]) -> None:
        self._renew = renew
        self.open: dict[int, tuple[Request, Lane]] = {}
        self.ended: dict[int, Finished] = {}
        # "telling": `generate` waits for its `progress`, which may call other methods.
        self._state: Literal["whole", "changing", "generating", "telling"] = "whole"

    def __len__(self) -> int:
        return len(self.open) + len(self.ended)

    def end(self, one: Finished) -> None:
        """Move a request from `open` to `ended`. In this order: one that an interrupt leaves in both has ended."""
        self.ended[one.request] = one
        del self.open[one.request]

    def give_up(self, lane: Lane, cause: BaseException) -> None:
        """End all requests of a lane with an error."""
        for number in [number for number, (_, own) in self.open.items() if own is lane]:
            self.end(Finished(number, [], _given_up(cause)))

    def take(self) -> list[Finished]:
        """Return the requests that have ended, each once."""
        ended = self.ended
        try:
            self.ended = {}
            return list(ended.values())
        except BaseException:
            self.ended = ended
            raise

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Make a change as a whole: an exception inside gives up every request, and `take` tells of them."""
        self.mend()
        before, self._state = self._state, "changing"
        try:
            yield
            self._state = before
        except BaseException as error:
            self.mend(error)
            raise

    @contextmanager
    def generating(self) -> Iterator[None]:
        """As `changing`, for a caller that raises the exception itself: requests that it submitted are forgotten, not told."""
        try:
            self._state = "generating"
            yield
            self._state = "whole"
        except BaseException:
            self._state = "generating"
            self.mend()
            raise

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Mark a pause inside `generating`, in which nothing is half done and other methods may be called."""
        self._state = "telling"
        yield
        self._state = "generating"

    def mend(self, cause: BaseException | None = None) -> None:
        """Clean up after a call that was cut off; do nothing otherwise."""
        if self._state in ("whole", "telling"):
            return
        self._renew()
        if self._state == "generating":
            self.ended = {}
        else:
            given_up = {number: Finished(number, [], _given_up(cause)) for number in self.open if number not in self.ended}
            self.ended = self.ended | given_up
        self.open = {}
        self._state = "whole"


def _given_up(cause: BaseException | None) -> RuntimeError:
    reason = "an exception" if cause is None else f"{type(cause).__name__}: {cause}".removesuffix(": ")
    return RuntimeError(f"request: given up, as the engine was cut off by {reason}")
