"""Contexts as token ids: what a model was shown and what it wrote, append-only, and what of it is trained.

    context = TokenContext(tokenizer)
    while (request := episode.request) is not None:          # of one agent
        context.sync(request.messages)                       # tokenises what is new
        token_ids, logprobs = engine(context.token_ids)
        context.append(token_ids, logprobs)                  # kept exactly as sampled
        episode.act(context.text_of(token_ids))

Text is tokenised once. What follows a sampled turn is rendered after a stand-in for that turn, never after the turn's own
text, so that it doesn't depend on what stands: a chat template that rewrites earlier turns (Qwen3 drops their <think>; others
move the system text) gets an append as well, and the model goes on seeing what it wrote (`TokenContext.rewrites` tells).
An end of turn that was sampled is not written again. `trainer.chat` says what ends a turn, and what of a text may become a
control token: of messages nothing, only the template's own.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainer.chat import CHATML, chat_of
from trainer.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["CHATML", "TokenContext", "trl_rollout", "verl_rows"]


class TokenContext:
    """One agent's context in one episode.

    A template without a system role gets the system text at the head of the first user message. Text is tokenised piece by
    piece, from the end of one sampled turn to the start of the next.

    Args: template_kwargs: what else the chat template takes, such as {"enable_thinking": False}; hashable values.
    Raises: ValueError for a tokenizer without a chat template, or with one that doesn't show texts.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", *, template_kwargs: Mapping[str, Any] | None = None) -> None:
        self._chat = chat_of(tokenizer, template_kwargs)
        self._messages: tuple[Message, ...] = ()
        self._awaits_turn = False
        self.token_ids: list[int] = []
        self.mask: list[int] = []  # 1: sampled
        self.logprobs: list[float] | None = []  # 0.0 where not sampled; None if a turn came without

    @property
    def rewrites(self) -> bool:
        """Whether the chat template renders an earlier turn in another way than it was sampled."""
        return self._chat.rewrites

    def sync(self, messages: Sequence[Message]) -> list[int]:
        """Appends what is new in `messages`, up to where the agent's next turn begins, with mask 0; returns the new tokens.

        The first call takes all messages, the last one a user's, as the prompt. Later ones expect the messages of the last
        call, then, for the turn that was appended since, the assistant's message, then a user's. The same messages again append
        nothing.

        Raises: ValueError for anything else: contexts only grow, by turns of known tokens.
        """
        new = tuple(messages)
        seen = len(self._messages)
        if new[:seen] != self._messages:
            raise ValueError(f"messages: expected the {seen} known ones and more, got others: a context only grows")
        fresh = new[seen:]
        if not seen:
            if not new or new[-1].role != "user":
                raise ValueError(f"messages: expected the last one from a user, got roles {[m.role for m in new]}")
            delta = self._chat.prompt(new)
        elif self._awaits_turn:
            if fresh:
                raise ValueError(f"messages: expected no more before the next turn's tokens are appended, got {fresh[0]!r}")
            return []
        else:
            roles = [message.role for message in fresh]
            if len(roles) < 2 or roles[0] != "assistant" or set(roles[1:]) != {"user"}:
                raise ValueError(f"messages: expected the assistant's turn that was appended, then a user's, got roles {roles}")
            delta = self._chat.after_turn(fresh[1:], self.token_ids[-1])
        self._extend(delta, 0, [0.0] * len(delta))
        self._messages, self._awaits_turn = new, True
        return delta

    def append(self, token_ids: Sequence[int], logprobs: Sequence[float] | None = None) -> None:
        """The agent's turn, as sampled, with mask 1; its end-of-turn token, if it was sampled, included.

        Raises: ValueError without a `sync` before it, for no tokens, or for another number of logprobs.
        """
        if not self._awaits_turn:
            raise ValueError("append: expected a sync before each turn, got none")
        if not token_ids or (logprobs is not None and len(logprobs) != len(token_ids)):
            got = "no" if logprobs is None else len(logprobs)
            raise ValueError(f"append: expected tokens and as many logprobs or none, got {len(token_ids)} and {got} logprobs")
        self._extend(token_ids, 1, logprobs)
        self._awaits_turn = False

    def reply_ids(self, text: str) -> list[int]:
        """The tokens of a turn that nobody sampled (an expert's), as the template renders it, with its end: for `append`."""
        return self._chat.reply_ids(text)

    def text_of(self, token_ids: Sequence[int], *, thought: bool = True) -> str:
        """The text of a sampled turn, without its end of turn.

        Args: thought: begin with the <think> of the generation prompt, where the template opens one.
        """
        return self._chat.text_of(token_ids, thought=thought)

    def fork(self) -> "TokenContext":
        """An equal context that goes its own way."""
        other = TokenContext.__new__(TokenContext)
        other.__dict__ |= self.__dict__
        other.token_ids, other.mask = self.token_ids.copy(), self.mask.copy()
        other.logprobs = None if self.logprobs is None else self.logprobs.copy()
        return other

    def _extend(self, token_ids: Sequence[int], mask: int, logprobs: Sequence[float] | None) -> None:
        self.token_ids += token_ids
        self.mask += [mask] * len(token_ids)
        if logprobs is None:
            self.logprobs = None
        elif self.logprobs is not None:
            self.logprobs += logprobs


def _split(context: TokenContext) -> tuple[int, int]:
    """Where the first sampled token is, and the end of the last."""
    if 1 not in context.mask:
        raise ValueError("contexts: expected at least one sampled token in each, got a context with none")
    return context.mask.index(1), len(context.mask) - context.mask[::-1].index(1)


def trl_rollout(contexts: Sequence[TokenContext]) -> dict[str, Any]:
    """What TRL's `rollout_func` returns: lists of a row a context, the prompt up to the first sampled token, then the rest.

    `{"prompt_ids": [[1, 2]], "completion_ids": [[3, 4, 5]], "logprobs": [[-0.1, 0.0, -0.2]], "env_mask": [[1, 0, 1]]}`;
    logprobs is None if one context lacks them. What follows the last sampled token is left out.

    Raises: ValueError for a context with no sampled token.
    """
    rows = [(context, *_split(context)) for context in contexts]
    logprobs = [None if context.logprobs is None else context.logprobs[first:end] for context, first, end in rows]
    return {
        "prompt_ids": [context.token_ids[:first] for context, first, _ in rows],
        "completion_ids": [context.token_ids[first:end] for context, first, end in rows],
        "logprobs": None if None in logprobs else logprobs,
        "env_mask": [context.mask[first:end] for context, first, end in rows],
    }


def verl_rows(contexts: Sequence[TokenContext], rewards: Sequence[float]) -> list[dict[str, Any]]:
    """Rows of verl's agent loop, a context and its reward each.

    `{"prompt_ids": [1, 2], "response_ids": [3, 4, 5], "response_mask": [1, 0, 1], "response_logprobs": [-0.1, 0.0, -0.2],
    "reward_score": 1.0}`; response_logprobs is None where the context has none.

    Raises: ValueError for a context with no sampled token, or another number of rewards.
    """
    if len(rewards) != len(contexts):
        raise ValueError(f"rewards: expected one for each of {len(contexts)} contexts, got {len(rewards)}")
    rows = []
    for context, reward in zip(contexts, rewards, strict=True):
        first, end = _split(context)
        rows.append(
            {
                "prompt_ids": context.token_ids[:first],
                "response_ids": context.token_ids[first:end],
                "response_mask": context.mask[first:end],
                "response_logprobs": None if context.logprobs is None else context.logprobs[first:end],
                "reward_score": reward,
            }
        )
    return rows
