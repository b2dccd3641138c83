"""The sampler against a distribution made by hand."""

import numpy as np
import pytest
import torch

from trainer.engine import SamplingParams
from trainer.engine.sampling import Styles, next_tokens, support, uniforms

# Tokens in no order of likelihood, two of them equally likely, and one impossible.
PROBABILITIES = [0.05, 0.4, 0.1, 0.0, 0.25, 0.1, 0.08, 0.02]
LOGITS = torch.tensor([PROBABILITIES]).log() + 3.0


def drawn(params, count=20000):
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count  # every part of [0, 1) alike
    tokens, logprobs, _ = next_tokens(LOGITS.expand(count, -1), params, u)
    return torch.bincount(tokens, minlength=8) / count, tokens, logprobs


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, PROBABILITIES),
        ({"top_k": 2}, [0, 0.4, 0, 0, 0.25, 0, 0, 0]),
        ({"top_k": 3}, [0, 0.4, 0.1, 0, 0.25, 0.1, 0, 0]),  # as likely as the third: stays too
        ({"top_k": 100}, PROBABILITIES),
        ({"top_p": 0.64}, [0, 0.4, 0, 0, 0.25, 0, 0, 0]),
        ({"top_p": 0.66}, [0, 0.4, 0.1, 0, 0.25, 0, 0, 0]),  # fewest: the first of the two equal ones
        ({"top_p": 0.8}, [0, 0.4, 0.1, 0, 0.25, 0.1, 0, 0]),
        ({"top_p": 1e-9}, [0, 1, 0, 0, 0, 0, 0, 0]),
        ({"min_p": 0.22}, [0, 0.4, 0.1, 0, 0.25, 0.1, 0, 0]),  # at least 0.088
        ({"min_p": 0.19}, [0, 0.4, 0.1, 0, 0.25, 0.1, 0.08, 0]),
        ({"top_k": 2, "top_p": 0.6}, [0, 1, 0, 0, 0, 0, 0, 0]),  # of the two that are left 0.4 / 0.65 > 0.6
        ({"temperature": 0.5}, [p**2 for p in PROBABILITIES]),
        ({"temperature": 2.0, "top_p": 0.3}, [0, 0.4**0.5, 0, 0, 0.25**0.5, 0, 0, 0]),
        ({"temperature": 0.5, "min_p": 0.05}, [0, 0.16, 0.01, 0, 0.0625, 0.01, 0, 0]),  # of p^2
    ],
)
def test_shares(fields, expected):
    params = SamplingParams(**fields)
    shares, tokens, logprobs = drawn(params)
    target = torch.tensor(expected, dtype=torch.float32)
    torch.testing.assert_close(shares, target / target.sum(), atol=1e-4, rtol=0)
    # The log-probability is that of the whole vocabulary at the temperature.
    whole = (LOGITS[0] / params.temperature).log_softmax(-1)
    torch.testing.assert_close(logprobs, whole[tokens])
    # The other one is that of what the filters left.
    params = SamplingParams(**fields)
    u = torch.arange(0.5, 64) / 64
    found = next_tokens(LOGITS.expand(64, -1), params, u.double())
    torch.testing.assert_close(found.sampling_logprobs, (target / target.sum()).log()[found.tokens])


def test_greedy():
    logits = torch.tensor([[0.0, 2.0, 2.0, -torch.inf], [5.0, 1.0, 1.0, 1.0]])
    tokens, logprobs, _ = next_tokens(logits, SamplingParams(temperature=0.0, top_k=1), torch.zeros(2, dtype=torch.float64))
    assert tokens.tolist() == [1, 0]  # the first of equals, as in transformers
    torch.testing.assert_close(logprobs, logits.log_softmax(-1)[[0, 1], [1, 0]])


def test_each_row_with_its_own_params():
    """The same bits as alone."""
    asked = [SamplingParams(temperature=0.0), SamplingParams(temperature=0.7, top_k=3), SamplingParams(min_p=0.1)]
    styles = Styles()
    numbers = np.array([styles.number(params) for params in asked])[[2, 0, 1, 1, 0, 2, 2]]
    g = torch.Generator().manual_seed(0)
    logits, u = torch.randn(7, 50, generator=g), torch.rand(7, dtype=torch.float64, generator=g)
    found = styles.draw(logits, numbers, u.numpy())
    for row, number in enumerate(numbers.tolist()):
        alone = next_tokens(logits[row : row + 1], asked[number], u[row : row + 1])
        assert all(torch.equal(a[row : row + 1], b) for a, b in zip(found, alone, strict=True))
        assert [a.dtype for a in found] == [b.dtype for b in alone]


def test_the_ends_of_the_unit_interval_are_possible_tokens():
    logits = torch.tensor([[-torch.inf, 0.0, 1.0, -torch.inf]]).expand(2, -1)
    largest = 1 - 2**-50 - 2**-53
    tokens, _, _ = next_tokens(logits, SamplingParams(), torch.tensor([0.0, largest], dtype=torch.float64))
    assert tokens.tolist() == [1, 2]
    u = uniforms(1000, 50, 3)
    assert u.shape == (1000, 50)
    assert 0 <= float(u.min()) < 1e-3
    assert 1 - 1e-3 < float(u.max()) < 1


def test_rare_tokens_of_a_large_vocabulary():
    """Half of the mass in one token, the rest thin over 100,000: an fp32 running sum would lose 1e-3 of it."""
    V = 100_000
    logits = torch.cat([torch.tensor([0.0]), torch.full((V,), -torch.tensor(float(V)).log().item())])[None]
    count = 256
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    tokens, _, _ = next_tokens(logits.expand(count, -1), SamplingParams(), u)
    exact = ((u - 0.5) * 2 * V).floor().long() + 1
    assert ((tokens - exact.clamp(min=0))[u >= 0.5].abs() <= 1).all()
    assert (tokens[u < 0.5] == 0).all()


def test_filters_leave_the_likeliest():
    scores = torch.randn(50, 30, generator=torch.Generator().manual_seed(0))
    for params in (SamplingParams(top_k=1), SamplingParams(top_p=1e-6), SamplingParams(min_p=1.0)):
        kept = support(scores, params) > -torch.inf
        assert kept.sum(-1).eq(1).all()
        assert (kept.float().argmax(-1) == scores.argmax(-1)).all()
