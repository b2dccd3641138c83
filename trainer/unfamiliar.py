"""Queries in words that a policy has not learnt: what SFT shows of them, so that it need not be certain where it can't know.

A small network that has seen every family in four or five wordings takes any other query, with certainty, for one of those.
Siblings then all do the same, and rewards have nothing to choose from. Where it has met made-up words it samples among what the
rest of the query admits.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import replace

from trainer.hima_ecom.dataset.samples import Sample

_WORD = re.compile(r"[A-Za-z][A-Za-z']*")


def blurred(samples: Sequence[Sample], agent: str, share: float, seed: int) -> list[Sample]:
    """The samples in their order; a share of those of `agent` in other words.

    Of such a sample's first message a random part of the words is left out, replaced with a word of another sample, or has its
    letters shuffled: a third each. Words that the agent says again (names, items, cities) and whatever has digits stay.
    """
    rng = random.Random(f"{seed}/unfamiliar")
    mine = [sample for sample in samples if sample.agent == agent]
    known = sorted({word for sample in mine for word in _WORD.findall(sample.messages[0]["content"])})
    return [_blur(sample, known, rng) if sample.agent == agent and rng.random() < share else sample for sample in samples]


def _blur(sample: Sample, known: Sequence[str], rng: random.Random) -> Sample:
    said = {word.lower() for m in sample.messages if m["role"] == "assistant" for word in _WORD.findall(m["content"])}
    part = rng.random()

    def other(match: re.Match[str]) -> str:
        word = match[0]
        if word.lower() in said or rng.random() >= part:
            return word
        return rng.choice(("", rng.choice(known), "".join(rng.sample(word, len(word)))))

    first, *rest = sample.messages
    head, colon, query = first["content"].rpartition("Task: ")
    text = head + colon + re.sub(r" {2,}", " ", _WORD.sub(other, query))
    return replace(sample, messages=({**first, "content": text}, *rest))
