"""An exception at any line of the engine: what was asked ends, nothing is held, and it then generates as a new one does."""

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from engines import one, prompts
from interrupts import Tracer, World
from test_continuous import GREEDY, nothing_is_held, run

from trainer.engine.scheduler import Scheduler

OPERATIONS = 12


@pytest.mark.parametrize(("kind", "times"), [("adapters", 14), ("networks", 6)])
def test_an_interrupt_at_any_line(kind: str, times: int) -> None:
    """Random operations on pools that preempt, cut off at a random line; every third once more while that is cleaned up."""
    rng, world = random.Random(kind), World(kind)
    traced = [world.interrupted(seed, OPERATIONS, Tracer()) for seed in range(2)]
    sites = sum((tracer.sites for tracer in traced), Counter[tuple[str, int]]())
    assert len(sites) > 200
    came = 0
    for seed in range(times):
        site = rng.choice(sorted(sites))
        tracer = Tracer((*site, rng.randrange(1, min(sites[site], 9) + 1)), None if seed % 3 else rng.randrange(1, 40))
        came += world.interrupted(seed, OPERATIONS, tracer).raised
    assert came > times / 2


def test_who_asks_step_by_step_is_told_what_was_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _ = one(prefill_tokens=8)
    numbers = [engine.submit(p, 2, params=GREEDY, policy="qa", seed=0) for p in prompts(20, 9, 5)]
    engine.step()
    with monkeypatch.context() as patch:
        patch.setattr(Scheduler, "commit", interrupt)
        with pytest.raises(KeyboardInterrupt):
            engine.step()
    assert engine.unfinished == 3
    engine.cancel(numbers[1])
    ended = engine.step()
    assert [(number, samples) for number, samples, _ in ended] == [(numbers[0], []), (numbers[2], [])]
    assert {str(error) for _, _, error in ended} == {"request: given up, as the engine was cut off by KeyboardInterrupt"}
    again = engine.submit(prompts(20)[0], 2, params=GREEDY, policy="qa", seed=0)
    assert len(run(engine)[again]) == 2
    nothing_is_held(engine)


def test_a_clean_up_that_is_cut_off_is_done_by_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two interrupts: the second where new schedulers are made."""
    engine, _ = one()
    asked = prompts(20, 9)
    wanted = engine.generate(asked, 2, GREEDY, "qa", [0, 1])
    engine.reset()
    with monkeypatch.context() as patch:
        patch.setattr(Scheduler, "commit", interrupt)
        patch.setattr(Scheduler, "__init__", interrupt)
        with pytest.raises(KeyboardInterrupt):
            engine.generate(asked, 2, GREEDY, "qa", [0, 1])
    assert engine.generate(asked, 2, GREEDY, "qa", [0, 1]) == wanted
    nothing_is_held(engine)


def test_what_progress_does_is_no_interrupt() -> None:
    """It may reset the engine; another `generate` in it is refused, and ends the first."""
    engine, _ = one()
    asked, params = prompts(20, 9), [replace(GREEDY, max_new_tokens=2), GREEDY]

    def tokens(**options: Any) -> list[tuple[int, ...]]:
        return [sample.token_ids for (sample,) in engine.generate(asked, 1, params, "qa", [0, 1], **options)]

    wanted = tokens()
    assert tokens(progress=lambda *_: engine.reset()) == wanted
    with pytest.raises(ValueError, match="generate: expected no requests that were submitted before, got 1"):
        tokens(progress=lambda *_: engine.generate(asked, 1, GREEDY, "qa"))
    assert engine.unfinished == 0
    assert tokens() == wanted
    nothing_is_held(engine)


def interrupt(*args: object, **options: object) -> None:
    raise KeyboardInterrupt
