"""Queries in words that a policy has not learnt: what SFT shows of them, so that it need not be certain where it can't know.

A small network that has seen every family in four or five wordings takes any other query, with certainty, for one of those.
Siblings then all do the same, and rewards have nothing to choose from. Where it has met made-up words it samples among what the
rest of the query admits.
"""

import random
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from trainer.hima_ecom.dataset.samples import Sample

_WORD = re.compile(r"(?<![\w-])[A-Za-z][A-Za-z']*(?![\w-])")
_CLAUSE = re.compile(r"(?<=[,.;:?!]) | (?=(?:at|by|for|from|if|in|of|on|to|when|with) )")  # where one may begin
COMMON = 0.18  # of a family's queries: words in more of them belong to its sentences, not to what they are about


def blurred(samples: Sequence[Sample], agent: str, share: float, seed: int) -> list[Sample]:
    """The samples in their order; a share of those of `agent` in other words.

    Half of these queries begin at a clause in their middle, and what stood before it comes last: who has only met prices before
    weights takes the first number for the price. Then a random part of the words is left out, replaced with a common word
    of any family, or has its letters shuffled: a third each. What the query is about stays: whatever has digits or is in
    capitals, and words that the agent says again, unless they are common in the queries of the family.
    """
    if not share:
        return list(samples)
    rng = random.Random(f"{seed}/unfamiliar")
    mine = [sample for sample in samples if sample.agent == agent]
    words = {id(sample): _WORD.findall(_query(sample)) for sample in mine}
    sizes = Counter(sample.family for sample in mine)
    counts = Counter((sample.family, word) for sample in mine for word in {word.lower() for word in words[id(sample)]})
    common = {key for key, count in counts.items() if count > COMMON * sizes[key[0]]}
    known = sorted({word for _, word in common})
    return [
        _blur(sample, known, common, rng) if sample.agent == agent and rng.random() < share else sample for sample in samples
    ]


def _query(sample: Sample) -> str:
    return sample.messages[0]["content"].rpartition("Task: ")[2]


def _blur(sample: Sample, known: Sequence[str], common: Collection[tuple[str, str]], rng: random.Random) -> Sample:
    said = {word.lower() for m in sample.messages if m["role"] == "assistant" for word in _WORD.findall(m["content"])}
    part = rng.random()

    def other(match: re.Match[str]) -> str:
        word = match[0]
        about = word.lower() in said and (sample.family, word.lower()) not in common
        if about or (word.isupper() and word != "I") or rng.random() >= part:
            return word
        return rng.choice(("", rng.choice(known or [""]), "".join(rng.sample(word, len(word)))))

    first, *rest = sample.messages
    query = _query(sample)
    text = first["content"].removesuffix(query) + re.sub(r" {2,}", " ", _WORD.sub(other, turned(query, rng)))
    return replace(sample, messages=({**first, "content": text}, *rest))


def turned(query: str, rng: random.Random) -> str:
    """The query, or, with a chance of one half, what begins at one of its clauses and then what stood before that."""
    places = [match.span() for match in _CLAUSE.finditer(query)]
    if not places or rng.random() < 0.5:
        return query
    end, begin = rng.choice(places)
    return f"{query[begin:]} {query[:end]}"
