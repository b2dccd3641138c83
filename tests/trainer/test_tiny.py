"""The embedded model: what its tokenizer splits, and that it copies before it has learned anything."""

import pytest
import torch

from trainer.agents import hima_ecom_agents
from trainer.dialogue import TokenContext
from trainer.hima_ecom.dataset.samples import Sample
from trainer.models import ModelConfig, Policies
from trainer.tiny import END, NAME, TinyConfig, create
from trainer.types import Message

AGENTS = hima_ecom_agents()


def sample(number: int) -> Sample:
    messages = (
        {"role": "user", "content": f"Task: What is the total of order O{number:05d}?"},
        {"role": "assistant", "content": f'Action: get_order\nAction Input: {{"order_id": "O{number:05d}"}}'},
    )
    return Sample(
        id=str(number), agent="efc", column="efc", language="en", difficulty=1, family="f", memory=(), messages=messages
    )


SAMPLES = [sample(number) for number in range(1000, 1040)]


def test_it_is_the_same_for_the_same_seed() -> None:
    (one, first), (two, second) = create(SAMPLES, AGENTS, 3), create(SAMPLES, AGENTS, 3)
    assert one.get_vocab() == two.get_vocab()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.model.embed_tokens.weight, create(SAMPLES, AGENTS, 4)[1].model.embed_tokens.weight)


def test_its_seed_is_its_own() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    create(SAMPLES, AGENTS, 3)
    assert torch.equal(torch.rand(1), expected)


def test_a_digit_is_a_token_and_text_comes_back() -> None:
    tokenizer, _ = create(SAMPLES, AGENTS, 0)
    assert len(tokenizer("31415", add_special_tokens=False)["input_ids"]) == 5
    text = 'Ünïcode 商品 "x"\n  two  spaces, O01234.'
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_contexts_end_turns_with_the_end_token() -> None:
    tokenizer, _ = create(SAMPLES, AGENTS, 0)
    context = TokenContext(tokenizer)
    context.sync([Message("system", "efc"), Message("user", "Task: x")])
    assert tokenizer.decode(context.token_ids) == "<|system|>efc<|end|><|user|>Task: x<|end|><|assistant|>"
    assert context.reply_ids("y")[-1] == tokenizer.convert_tokens_to_ids(END) == tokenizer.eos_token_id


@pytest.mark.parametrize("config", [TinyConfig(), TinyConfig(hidden_size=192, heads=4, layers=3)])
def test_it_copies_before_it_is_trained(config: TinyConfig) -> None:
    _, model = create(SAMPLES, AGENTS, 0, config=config)
    torch.manual_seed(0)
    span = torch.stack([torch.randperm(config.vocab_size)[:30] for _ in range(16)])
    other = torch.randint(config.vocab_size, (16, 100))
    logits = model(torch.cat([span, other, span], 1)).logits[:, 130:-1]  # after the first token of the second span
    rank = (logits > logits.gather(-1, span[:, 1:, None])).sum(-1)
    assert (rank <= 1).float().mean() > 0.5  # of 1,024 tokens; the present token is another likely one


def test_policies_take_it() -> None:
    tokenizer, model = create(SAMPLES, AGENTS, 0)
    policies = Policies.create(ModelConfig(name=NAME), tuple(AGENTS), tokenizer=tokenizer, models={NAME: model})
    assert policies.names == tuple(AGENTS)


def test_samples_are_wanted() -> None:
    with pytest.raises(ValueError, match="samples: expected at least one"):
        create([], AGENTS, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 1}, "layers: expected at least 2"),
        ({"heads": 2, "look_back": (1, 2)}, "heads: expected at least 3"),
        ({"heads": 5, "look_back": (1, 2, 3, 4, 5)}, "heads: expected at least 3 that divide hidden_size = 128"),
        ({"look_back": (2, 1, 3, 4)}, "look_back: expected 1 and then 3 more"),
        ({"look_back": (1, 2)}, "look_back: expected 1 and then 3 more"),
    ],
)
def test_sizes_are_checked(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TinyConfig(**change)
