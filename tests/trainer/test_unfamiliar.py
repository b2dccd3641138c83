"""Blurred queries: what stays, what changes, and who is left alone."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from trainer.config import SFTConfig
from trainer.hima_ecom.dataset.samples import Sample
from trainer.unfamiliar import blurred, turned

QUERY = "Strategies from memory:\n- Ask qa.\n\nTask: For how many months is the {} with 12 parts covered, in EUR?"
CALL = 'Thought: qa knows.\nAction: qa\nAction Input: {{"task": "How long is the warranty on the {}?"}}'
NAMES = (
    "Umbrio",
    "Hollin",
    "Fennick",
    "Wrenfield",
    "Lumora",
    "Tamsin",
    "Solstead",
    "Iverra",
    "Dovetail",
    "Junipa",
    "Orbeon",
    "Evermoor",
)


def sample(agent: str, number: int) -> Sample:
    name = NAMES[number // 2 % len(NAMES)]
    messages = ({"role": "user", "content": QUERY.format(name)}, {"role": "assistant", "content": CALL.format(name)})
    about = {"column": "qa", "language": "en", "difficulty": 1, "family": "warranty"}
    return Sample(id=f"{number}/{agent}", agent=agent, memory=(), messages=messages, **about)


SAMPLES = [sample("master" if i % 2 else "qa", i) for i in range(240)]


def test_names_and_numbers_stay_and_the_words_around_them_change() -> None:
    found = [s for s in blurred(SAMPLES, "master", 1.0, 0) if s.agent == "master"]
    queries = [s.messages[0]["content"] for s in found]
    assert all(sum(name in query for name in NAMES) == 1 for query in queries)
    assert all("12" in query and "EUR" in query for query in queries)
    assert all(query.startswith("Strategies from memory:\n- Ask qa.\n\nTask: ") for query in queries)
    assert len(set(queries)) > 60
    assert sum("covered" not in query for query in queries) > 20
    assert sum(" is " not in query for query in queries) > 20  # said again, but common
    assert [s.messages[1] for s in found] == [s.messages[1] for s in SAMPLES if s.agent == "master"]


def test_half_of_the_queries_begin_in_their_middle() -> None:
    """At a clause; what stood before it comes last, and nothing else moves."""
    rng = random.Random(0)
    query = "When it is 3 pm in Cairo, what time is it in Berlin?"
    found = Counter(turned(query, rng) for _ in range(400))
    assert 160 < found.pop(query) < 240
    assert set(found) == {
        "in Cairo, what time is it in Berlin? When it is 3 pm",
        "what time is it in Berlin? When it is 3 pm in Cairo,",
        "in Berlin? When it is 3 pm in Cairo, what time is it",
    }
    assert turned("Weekday?", rng) == "Weekday?"


def test_a_share_of_one_agent_the_same_from_a_seed() -> None:
    found = blurred(SAMPLES, "master", 0.5, 3)
    changed = [a is not b for a, b in zip(found, SAMPLES, strict=True)]
    assert not any(changed[::2])
    assert 40 < sum(changed) < 80
    assert found == blurred(SAMPLES, "master", 0.5, 3)
    assert found != blurred(SAMPLES, "master", 0.5, 4)
    assert blurred(SAMPLES, "master", 0.0, 3) == SAMPLES


def test_queries_that_have_no_word_in_common() -> None:
    """Nothing to replace a word with: it is left out."""
    texts = [f"Task: {'abcdefghijkl'[i] * 5}" for i in range(12)]
    alone = [replace(SAMPLES[1], messages=({"role": "user", "content": t}, SAMPLES[1].messages[1])) for t in texts]
    assert [s.messages[0]["content"][:6] for s in blurred(alone, "master", 1.0, 0)] == ["Task: "] * 12


def test_a_share_is_checked() -> None:
    with pytest.raises(ValueError, match=r"unfamiliar: expected a share in \[0, 1\], got 1.5"):
        SFTConfig(unfamiliar=1.5)
