"""Blurred queries: what stays, what changes, and who is left alone."""

import pytest

from trainer.config import SFTConfig
from trainer.hima_ecom.dataset.samples import Sample
from trainer.unfamiliar import blurred

QUERY = "Strategies from memory:\n- Ask qa.\n\nTask: For how many months is the Umbrio Drift board game with 12 parts covered?"
CALL = 'Thought: qa knows.\nAction: qa\nAction Input: {"task": "How long is the warranty on the Umbrio Drift board game?"}'


def sample(agent: str, number: int) -> Sample:
    messages = ({"role": "user", "content": QUERY}, {"role": "assistant", "content": CALL})
    about = {"column": "qa", "language": "en", "difficulty": 1, "family": "warranty"}
    return Sample(id=f"{number}/{agent}", agent=agent, memory=(), messages=messages, **about)


SAMPLES = [sample("master" if i % 2 else "qa", i) for i in range(200)]


def test_what_the_agent_says_again_and_what_has_digits_stays() -> None:
    found = blurred(SAMPLES, "master", 1.0, 0)
    queries = [s.messages[0]["content"] for s in found if s.agent == "master"]
    assert all(word in query for query in queries for word in ("Umbrio", "Drift", "board", "game", "is", "the"))
    assert all("12" in query and query.startswith("Strategies from memory:\n- Ask qa.\n\nTask: ") for query in queries)
    assert len(set(queries)) > 60
    assert sum("covered" not in query for query in queries) > 20
    assert [s.messages[1] for s in found] == [s.messages[1] for s in SAMPLES]


def test_a_share_of_one_agent_the_same_from_a_seed() -> None:
    found = blurred(SAMPLES, "master", 0.5, 3)
    changed = [a is not b for a, b in zip(found, SAMPLES, strict=True)]
    assert not any(changed[::2])
    assert 30 < sum(changed) < 70
    assert found == blurred(SAMPLES, "master", 0.5, 3)
    assert found != blurred(SAMPLES, "master", 0.5, 4)
    assert blurred(SAMPLES, "master", 0.0, 3) == SAMPLES


def test_a_share_is_checked() -> None:
    with pytest.raises(ValueError, match=r"unfamiliar: expected a share in \[0, 1\], got 1.5"):
        SFTConfig(unfamiliar=1.5)
