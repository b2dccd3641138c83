"""Append-only token contexts under chat templates of every manner, with a tokenizer made here."""

from collections.abc import Callable
from typing import Any

import pytest
from plays import StoreEnv, task, walk
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from trainer.agents import hima_ecom_agents
from trainer.dialogue import CHATML, TokenContext, trl_rollout, verl_rows
from trainer.episode import Episode
from trainer.types import Message

# As Qwen3: a think block only stays in the turns after the last user message.
THINKING = (
    "{% for m in messages %}{% set c = m['content'] %}{% if m['role'] == 'assistant' and '</think>' in c %}"
    "{% set c = c.split('</think>')[-1].lstrip('\n') %}{% endif %}<|im_start|>{{ m['role'] }}\n{{ c }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if quiet %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
# As Gemma 2: no system role, users and the model take turns.
STRICT = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('take turns') }}{% endif %}"
    "<|im_start|>{{ 'model' if m['role'] == 'assistant' else 'user' }}\n{{ m['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
# As early Mistrals: the system text moves to the last user message; the turn ends with the end of the sequence.
MOVING = (
    "{{ bos_token }}{% for m in messages if m['role'] != 'system' %}{% if m['role'] == 'user' %}[INST] "
    "{% if loop.last and messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}\n\n{% endif %}"
    "{{ m['content'] }} [/INST]{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
# No special token anywhere, no system text either.
PLAIN = (
    "{% for m in messages if m['role'] != 'system' %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
TEMPLATES = {"chatml": CHATML, "thinking": THINKING, "strict": STRICT, "moving": MOVING, "plain": PLAIN}
START = (Message("system", "You are qa."), Message("user", "Task: x"))


@pytest.fixture(scope="module")
def make() -> Callable[[str | None], PreTrainedTokenizerFast]:
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    model.train_from_iterator(
        ["Thought: I know.\nAction: get_order\nAction Input: {}\nObservation: Final Answer: done"] * 9, trainer
    )

    def tokenizer(template: str | None) -> PreTrainedTokenizerFast:
        made = PreTrainedTokenizerFast(
            tokenizer_object=model, bos_token="<s>", eos_token="</s>", additional_special_tokens=special[2:]
        )
        made.chat_template = template
        return made

    return tokenizer


Make = Callable[[str | None], PreTrainedTokenizerFast]


def dicts(messages: tuple[Message, ...]) -> list[dict[str, str]]:
    return [message._asdict() for message in messages]


def test_chatml_in_full(make: Make) -> None:
    tokenizer = make(CHATML)
    context = TokenContext(tokenizer)
    first = context.sync(START)
    text = "<|im_start|>system\nYou are qa.<|im_end|>\n<|im_start|>user\nTask: x<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(context.token_ids) == text
    assert context.sync(START) == []
    reply = context.reply_ids("Final Answer: y")
    assert tokenizer.decode(reply) == "Final Answer: y<|im_end|>"
    context.append(reply, [-0.5] * len(reply))
    more = (*START, Message("assistant", "Final Answer: y"), Message("user", "Task: z"))
    second = context.sync(more)
    assert tokenizer.decode(second) == "\n<|im_start|>user\nTask: z<|im_end|>\n<|im_start|>assistant\n"
    assert context.token_ids == first + reply + second
    assert context.mask == [0] * len(first) + [1] * len(reply) + [0] * len(second)
    assert context.logprobs == [0.0] * len(first) + [-0.5] * len(reply) + [0.0] * len(second)
    assert not context.rewrites


@pytest.mark.parametrize("name", TEMPLATES)
def test_episodes_only_append(make: Make, name: str) -> None:
    """A whole episode: no token ever changes, sampled ones stay as sampled, the text is the template's where it appends too."""
    tokenizer = make(TEMPLATES[name])
    contexts: dict[str, TokenContext] = {}
    episode = Episode(StoreEnv(), hima_ecom_agents(), task=task())
    sampled: dict[str, list[int]] = {}
    for text in walk():
        request = episode.request
        assert request is not None
        context = contexts.setdefault(request.agent, TokenContext(tokenizer))
        before = context.token_ids.copy()
        delta = context.sync(request.messages)
        assert context.token_ids == before + delta
        if not context.rewrites and name not in ("strict", "plain"):
            shown = tokenizer.apply_chat_template(dicts(request.messages), tokenize=False, add_generation_prompt=True)
            assert tokenizer.decode(context.token_ids) == shown
            assert context.token_ids == tokenizer(shown, add_special_tokens=False)["input_ids"]
        ids = context.reply_ids(text)
        assert tokenizer.decode(ids, skip_special_tokens=True) == (f" {text}" if name == "moving" else text)
        context.append(ids, [-1.0] * len(ids))
        sampled.setdefault(request.agent, []).extend(ids)
        episode.act(text)
    assert episode.reward == 1.0
    assert list(contexts) == ["master", "efc", "math"]
    for agent, context in contexts.items():
        assert [t for t, m in zip(context.token_ids, context.mask, strict=True) if m] == sampled[agent]
        assert context.rewrites == (name in ("thinking", "moving"))
        assert context.mask[-1] == 1
        every = tokenizer.decode(context.token_ids)
        assert every.count("You are ") == 1
        for message in episode.contexts[agent][1:]:
            assert every.count(message.content) >= 1


def test_what_was_sampled_is_never_tokenised_again(make: Make) -> None:
    """Other tokens than the tokenizer's own for the same text, and no end of turn: the text was cut."""
    tokenizer = make(CHATML)
    context = TokenContext(tokenizer)
    context.sync(START)
    letters = [token for letter in "Final Answer: done" for token in tokenizer(letter)["input_ids"]]
    assert letters != tokenizer("Final Answer: done")["input_ids"]
    prompt = context.token_ids.copy()
    context.append(letters)
    context.sync((*START, Message("assistant", "Final Answer: done"), Message("user", "go on")))
    assert context.token_ids[len(prompt) : len(prompt) + len(letters)] == letters
    rest = tokenizer.decode(context.token_ids[len(prompt) + len(letters) :])
    assert rest == "<|im_end|>\n<|im_start|>user\ngo on<|im_end|>\n<|im_start|>assistant\n"
    assert context.logprobs is None
    # A model that stops with another token than the template's keeps it.
    other = TokenContext(tokenizer)
    other.sync(START)
    other.append([*letters, tokenizer.eos_token_id])
    delta = other.sync((*START, Message("assistant", "Final Answer: done"), Message("user", "go on")))
    assert tokenizer.decode(delta) == rest


def test_a_template_that_rewrites_gets_an_append(make: Make) -> None:
    turn = "<think>\nLong.\n</think>\n\nFinal Answer: y"
    more = (*START, Message("assistant", turn), Message("user", "Task: z"))
    for kwargs, opening in (({}, ""), ({"quiet": True}, "<think>\n\n</think>\n\n")):
        tokenizer = make(THINKING)
        context = TokenContext(tokenizer, template_kwargs=kwargs)
        assert context.rewrites
        context.sync(START)
        context.append(context.reply_ids(turn))
        context.sync(more)
        assert tokenizer.decode(context.token_ids) == (
            "<|im_start|>system\nYou are qa.<|im_end|>\n<|im_start|>user\nTask: x<|im_end|>\n"
            f"<|im_start|>assistant\n{opening}{turn}<|im_end|>\n<|im_start|>user\nTask: z<|im_end|>\n"
            f"<|im_start|>assistant\n{opening}"
        )
    tokenizer = make(MOVING)
    context = TokenContext(tokenizer)
    context.sync(START)
    context.append(context.reply_ids("y"))
    context.sync((*START, Message("assistant", "y"), Message("user", "z")))
    assert tokenizer.decode(context.token_ids) == "<s>[INST] You are qa.\n\nTask: x [/INST] y</s>[INST] z [/INST]"


def test_a_template_without_a_system_role_gets_it_in_the_first_message(make: Make) -> None:
    for template, head in ((STRICT, "<s><|im_start|>user\n"), (PLAIN, "user: ")):
        tokenizer = make(template)
        context = TokenContext(tokenizer)
        context.sync(START)
        assert tokenizer.decode(context.token_ids).startswith(f"{head}You are qa.\n\nTask: x")
        assert not context.rewrites


def test_what_is_no_append_is_refused(make: Make) -> None:
    context = TokenContext(make(CHATML))
    with pytest.raises(ValueError, match="expected a sync before each turn"):
        context.append([5])
    for bad in ((), START[:1], (*START, Message("assistant", "y"))):
        with pytest.raises(ValueError, match="expected the last one from a user"):
            context.sync(bad)
    context.sync(START)
    with pytest.raises(ValueError, match="expected the 2 known ones and more, got others"):
        context.sync((START[0], Message("user", "Task: other")))
    with pytest.raises(ValueError, match="expected the 2 known ones and more, got others"):
        context.sync(START[:1])
    more = (*START, Message("assistant", "y"), Message("user", "z"))
    with pytest.raises(ValueError, match="before the next turn's tokens are appended"):
        context.sync(more)
    for tokens, logprobs in (([], None), ([5, 6], [-1.0])):
        with pytest.raises(ValueError, match="expected tokens and as many logprobs"):
            context.append(tokens, logprobs)
    ids = context.token_ids.copy()
    context.append([5])
    with pytest.raises(ValueError, match="expected a sync before each turn"):
        context.append([5])
    for bad in (START, more[:3], (*START, more[3]), (*more, more[2])):
        with pytest.raises(ValueError, match="expected the assistant's turn that was appended"):
            context.sync(bad)
    assert context.token_ids == [*ids, 5]
    context.sync(more)


def test_a_template_without_special_tokens_ends_its_turns_by_the_end_of_the_sequence(make: Make) -> None:
    tokenizer = make(PLAIN)
    context = TokenContext(tokenizer)
    context.sync(START[1:])
    context.append(context.reply_ids("y"))
    context.sync((START[1], Message("assistant", "y"), Message("user", "z")))
    assert tokenizer.decode(context.token_ids) == "user: Task: x\nassistant: y</s>\nuser: z\nassistant: "


def test_a_message_may_say_anything(make: Make) -> None:
    """Even what stands in for the earlier turn while the next piece is rendered."""
    tokenizer = make(CHATML)
    context = TokenContext(tokenizer)
    context.sync(START)
    context.append(context.reply_ids("y"))
    delta = context.sync((*START, Message("assistant", "y"), Message("user", "An earlier turn. An earlier turn.")))
    assert tokenizer.decode(delta).count("An earlier turn.") == 2


def test_a_tokenizer_without_a_chat_template_is_told_what_to_do(make: Make) -> None:
    tokenizer = make(None)
    with pytest.raises(ValueError, match=r"set tokenizer.chat_template to .* trainer.dialogue.CHATML"):
        TokenContext(tokenizer)
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'].text }}\n{% endfor %}"
    with pytest.raises(ValueError, match="expected a chat template that shows messages of text, got one that made 'user: "):
        TokenContext(tokenizer)
    tokenizer.chat_template = CHATML
    assert TokenContext(tokenizer).sync(START)


def test_forks_go_their_own_ways(make: Make) -> None:
    context = TokenContext(make(CHATML))
    context.sync(START)
    fork = context.fork()
    fork.append([5, 6], [-1.0, -2.0])
    context.append([7], None)
    assert fork.token_ids[:-2] == context.token_ids[:-1]
    assert (fork.token_ids[-2:], context.token_ids[-1], sum(fork.mask), sum(context.mask)) == ([5, 6], 7, 2, 1)
    assert fork.logprobs is not None
    assert context.logprobs is None


def test_exports(make: Make) -> None:
    tokenizer = make(CHATML)
    context = TokenContext(tokenizer)
    prompt = context.sync(START)
    context.append([20, 3], [-0.1, -0.2])
    delta = context.sync((*START, Message("assistant", "y"), Message("user", "z")))
    context.append([21], [-0.3])
    short = context.fork()
    context.sync((*START, *[Message("assistant", "y"), Message("user", "z")] * 2))  # nobody answered: left out
    completion = [20, 3, *delta, 21]
    mask, logprobs = [1, 1, *[0] * len(delta), 1], [-0.1, -0.2, *[0.0] * len(delta), -0.3]
    rows: dict[str, Any] = trl_rollout([context, short])
    assert rows == {
        "prompt_ids": [prompt] * 2, "completion_ids": [completion] * 2, "logprobs": [logprobs] * 2, "env_mask": [mask] * 2,
    }  # fmt: skip
    row = {"prompt_ids": prompt, "response_ids": completion, "response_mask": mask, "response_logprobs": logprobs}
    assert verl_rows([context, short], [1.0, 0.5]) == [row | {"reward_score": 1.0}, row | {"reward_score": 0.5}]
    bare = TokenContext(tokenizer)
    bare.sync(START)
    with pytest.raises(ValueError, match="at least one sampled token"):
        trl_rollout([context, bare])
    bare.append([9])
    assert trl_rollout([context, bare])["logprobs"] is None
    assert verl_rows([bare], [0.0])[0]["response_logprobs"] is None
    with pytest.raises(ValueError, match="rewards: expected one for each of 1 contexts, got 0"):
        verl_rows([bare], [])


@pytest.mark.parametrize("name", TEMPLATES)
def test_static_system_texts_are_tokenised_once(make: Make, name: str) -> None:
    """The tokens are those of the whole text, whatever the user says; the system text's letters go to the tokenizer once."""
    tokenizer = make(TEMPLATES[name])
    system = "You are qa. " * 50
    lengths = []
    for user in ("one", "Task: x", "Task: x\n\ny", "<|im_start|>", ""):
        messages = (Message("system", system), Message("user", user))
        context = TokenContext(tokenizer)
        with pytest.MonkeyPatch.context() as patch:
            encode = type(context._chat).encode
            patch.setattr(
                type(context._chat), "encode", lambda self, text, e=encode: lengths.append(len(text)) or e(self, text)
            )
            context.sync(messages)
        assert context.token_ids == context._chat.encode(context._chat.render(context._chat._safe(messages)))
    assert (max(lengths[-4:]) < len(system)) == (name in ("chatml", "thinking"))
