"""SFT: a sample's tokens are those of an episode, its assistant's turns are trained, runs repeat and learn."""

import random
from itertools import count
from types import SimpleNamespace

import pytest
from tiny_policies import policies, same, values

from trainer.agents import hima_ecom_agents
from trainer.dialogue import TokenContext
from trainer.hima_ecom.dataset.samples import Sample
from trainer.learner import Learner, LearnerConfig
from trainer.prompts import system_prompt
from trainer.sft import SFT, sft_sequence, sft_sequences
from trainer.types import Message

FIVE = ("master", "qa", "efc", "gfc", "math")


def sample(agent: str, *texts: str, name: str = "s") -> Sample:
    roles = ("user", "assistant") * len(texts)
    messages = tuple({"role": role, "content": text} for role, text in zip(roles, texts, strict=False))
    return Sample(
        id=name, agent=agent, column=agent, language="en", difficulty=1, family="f", memory=(), messages=messages
    )  # fmt: skip


def test_a_sample_is_what_an_episode_shows() -> None:
    made = policies("shared", agents=FIVE, shared_trains="lora")
    agent = hima_ecom_agents()["math"]
    written = ["Thought: add\nAction: calculate\nAction Input: {}", "Thought: done\nFinal Answer: 5"]
    sequence = sft_sequence(sample("math", "Task: 2 + 3", written[0], "Observation: 5", written[1]), agent, made)
    assert (sequence.policy, sequence.agent) == ("shared", "math")
    assert isinstance(sequence.trained, tuple)
    decode = made.tokenizer.decode
    trained = [token for token, on in zip(sequence.token_ids, sequence.trained, strict=True) if on]
    assert decode(trained) == "".join(text + "<|im_end|>" for text in written)
    context = TokenContext(made.tokenizer)
    context.sync([Message("system", system_prompt(agent)), Message("user", "Task: 2 + 3")])
    assert sequence.token_ids[: len(context.token_ids)] == tuple(context.token_ids)
    assert not any(sequence.trained[: len(context.token_ids)])
    assert decode(sequence.token_ids).count("<|im_start|>") == 5


def test_batches_are_whole_shuffled_and_full() -> None:
    made = policies("shared", agents=FIVE)
    rng = random.Random(0)
    samples = [sample(rng.choice(FIVE), "q", "a" * rng.randint(1, 30), name=str(i)) for i in range(40)]
    sft = SFT(
        Learner(made, LearnerConfig()), sft_sequences(samples, hima_ecom_agents(), made), batch_tokens=64, epochs=2, seed=5
    )
    first, second = sft.batches(0), sft.batches(1)
    assert sft.batches(0) == first != second
    assert sorted(i for batch in first for i in batch) == list(range(40))
    sizes = [sum(int(sft.sequences[i].mask().sum()) for i in batch) for batch in first]
    assert max(sizes) <= 64
    assert min(sizes[:-1]) > 64 - 31
    assert sft.total_steps == len(first) + len(second)
    assert SFT(sft.learner, sft.sequences, epochs=None, seconds=1).total_steps is None


def test_sft_learns_and_resumes() -> None:
    """The agents' texts are known after a few epochs; a run that goes on from its middle ends in the same bits."""
    samples = [
        sample(agent, f"Task: {i}", f"{agent} says {i}", name=f"{agent}{i}") for agent in ("qa", "math") for i in range(3)
    ]

    def start() -> SFT:
        made = policies("shared", agents=("qa", "math"), shared_trains="full")
        plain = {name: type(agent)(name, agent.description, ()) for name, agent in hima_ecom_agents().items()}
        learner = Learner(made, LearnerConfig(learning_rate=1e-2))
        return SFT(learner, sft_sequences(samples, plain, made, max_tokens=512), batch_tokens=60, epochs=12, seed=1)

    whole = start()
    losses = [metrics.loss / 2 for metrics in whole.run()]
    assert len(losses) == whole.total_steps == whole.learner.step_number
    assert losses[0] > 3
    assert max(losses[-3:]) < 0.3
    halves = start()
    run = halves.run()
    for _ in range(5):
        next(run)
    assert [metrics.loss / 2 for metrics in halves.run(start=5)] == losses[5:]
    assert same(values(halves.learner.policies)["shared"], values(whole.learner.policies)["shared"])


def test_time_ends_a_run() -> None:
    made = policies("shared", agents=FIVE)
    given = sft_sequences([sample("qa", "q", "a")], hima_ecom_agents(), made)
    assert list(SFT(Learner(made, LearnerConfig()), given, epochs=None, seconds=1e-9).run()) == []
    assert len(list(SFT(Learner(made, LearnerConfig()), given, epochs=2, seconds=60).run())) == 2


def test_the_rate_falls_with_the_time_where_only_the_time_ends_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    made = policies("shared", agents=FIVE)
    given = sft_sequences([sample("qa", "q", "a")], hima_ecom_agents(), made)
    learner = Learner(made, LearnerConfig(learning_rate=1e-3, warmup_steps=2))
    clock = count()  # a second at each look
    monkeypatch.setattr("trainer.sft.time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    run = SFT(learner, given, epochs=None, seconds=5, schedule="linear").run()
    rates = [metrics.learning_rate for metrics in run]
    assert rates == pytest.approx([1e-3 * 0.8 / 2, 1e-3 * 0.6, 1e-3 * 0.4, 1e-3 * 0.2])
    run = SFT(learner, given, epochs=None, seconds=5, schedule="linear").run(start=4, elapsed=3)
    assert [metrics.learning_rate for metrics in run] == []


def test_what_is_wrong_is_named() -> None:
    made = policies("shared", agents=("qa",))
    agents = hima_ecom_agents()
    with pytest.raises(ValueError, match=r"sample 's': expected messages of user and assistant in turn, got roles \['user'\]"):
        sft_sequence(sample("qa", "Task: 1"), agents["qa"], made)
    learner = Learner(made, LearnerConfig())
    assert sft_sequences([sample("efc", "q", "a")], agents, made) == []  # not an agent of these policies
    assert sft_sequences([sample("qa", "q", "a")], agents, made, max_tokens=10) == []
    with pytest.raises(ValueError, match=r"sequences: expected at least one, got none"):
        SFT(learner, [])
    given = sft_sequences([sample("qa", "q", "a")], agents, made)
    with pytest.raises(ValueError, match=r"epochs, seconds: expected one of them, got None for both"):
        SFT(learner, given, epochs=None)
