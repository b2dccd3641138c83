"""SIGINT and SIGTERM as a wish: what runs ends soon, at a place where nothing is half done. A second signal ends it at once."""

import os
import signal
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any

from trainer.engine.base import ContinuousEngine, Engine, EngineStats, Finished, SamplingParams
from trainer.types import Sample


class Stopped(Exception):  # noqa: N818 - a wish, no error
    """The run was asked to stop, and what was running has been given up."""


class Stop:
    """`with Stop() as stop: ... if stop.asked: ...`. Outside the main thread signals stay what they were."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    def check(self) -> None:
        """Raises: Stopped if a signal has come."""
        if self.signal is not None:
            raise Stopped(self.signal.name)

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._hear) for number in self.SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before.clear()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.asked:  # somebody does not want to wait
            for known, before in self._before.items():
                signal.signal(known, before)
            os.kill(os.getpid(), number)
            return
        self.signal = signal.Signals(number)


def stoppable(engine: Engine, stop: Stop) -> "StoppableEngine":
    """The engine, which generates nothing more once it was asked to stop: it ends between two steps, not after a batch."""
    return StoppableContinuousEngine(engine, stop) if isinstance(engine, ContinuousEngine) else StoppableEngine(engine, stop)


class StoppableEngine:
    """See `stoppable`."""

    def __init__(self, engine: Engine, stop: Stop) -> None:
        self.engine, self.stop = engine, stop

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        n: int | Sequence[int],
        params: SamplingParams | Sequence[SamplingParams],
        policy: str | Sequence[str],
        seeds: Sequence[int] | None = None,
    ) -> list[list[Sample]]:
        """See `Engine.generate`. Also raises: Stopped."""
        self.stop.check()
        return self.engine.generate(prompts, n, params, policy, seeds)

    def update_policy(self, policy: str) -> None:
        """See `Engine.update_policy`."""
        self.engine.update_policy(policy)

    def reset(self) -> None:
        """See `Engine.reset`."""
        self.engine.reset()

    @property
    def stats(self) -> EngineStats:
        """See `Engine.stats`."""
        return self.engine.stats


class StoppableContinuousEngine(StoppableEngine):
    """See `stoppable`."""

    engine: ContinuousEngine

    def submit(self, prompt: Sequence[int], n: int = 1, *, params: SamplingParams, policy: str, seed: int | None = None) -> int:
        """See `ContinuousEngine.submit`."""
        return self.engine.submit(prompt, n, params=params, policy=policy, seed=seed)

    def step(self) -> list[Finished]:
        """See `ContinuousEngine.step`. Also raises: Stopped."""
        self.stop.check()
        return self.engine.step()

    def cancel(self, request: int) -> None:
        """See `ContinuousEngine.cancel`."""
        self.engine.cancel(request)
