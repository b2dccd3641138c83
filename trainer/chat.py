"""Chat templates: the only place where messages become token ids, and where it is decided what ends a turn.

**What ends a turn.** `ends_of_turn`: the token that the template writes after an assistant's text, the tokenizer's `eos_token`,
and every id in the `eos_token_id` of the models' generation configurations. All routes that sample stop at any of them. A turn
that an expert wrote (`Chat.reply_ids`) ends as the template ends it.

**What of a text may become a control token.** Nothing of a message: texts of models, tools, users and memories are encoded so
that what spells a control token stays ordinary characters (`trainer.control_tokens`). Only the template's own are read as such.
The exception is a prompt that is a whole text, rendered beforehand: its chat markup is the template's
(`trainer.prompts_env.prompt_template`). An agent's own turn may hold tags of the template such as <think>.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import groupby, takewhile
from typing import TYPE_CHECKING, Any

from trainer.control_tokens import CUT, ControlTokens
from trainer.escaping import for_utf8
from trainer.react import THINK, THOUGHT
from trainer.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_STAND_IN = "An earlier turn."
_PROBE = (
    Message("system", "Be exact."),
    Message("user", "one"),
    Message("assistant", "<think>\nhm\n</think>\n\n1"),
    Message("user", "two"),
    Message("assistant", "2"),
    Message("user", "three"),
)
_ASKED, _SAID = Message("user", "A first task."), Message("assistant", _STAND_IN)


class Chat:
    """A tokenizer's chat template, and what a few renderings tell of it.

    ends: what ends an assistant's turn. opening: the thought that the generation prompt begins ("<think>\\n", or ""); sampled
    text goes on in it. rewrites: an earlier turn is rendered in another way than it was sampled. whole: one message's text is
    the whole prompt. written: tokens that the template is known to write.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", kwargs: Mapping[str, Any]) -> None:
        if not tokenizer.chat_template:
            raise ValueError(
                "tokenizer: expected one with a chat template, got none; set tokenizer.chat_template to the model's own, or to "
                "trainer.dialogue.CHATML for a model that has not seen any"
            )
        self.tokenizer, self.kwargs, self.control = tokenizer, kwargs, ControlTokens(tokenizer)
        self.head = lru_cache(maxsize=64)(self._head)
        self.system = True
        try:
            self.system = _PROBE[0].content in self.render(_PROBE[:2])
        except Exception:  # templates raise jinja2's errors for a role that they don't know; the next rendering tells
            self.system = False
        try:
            shown = [self.render(_PROBE[:end]) for end in (2, 4, 6)]
        except Exception as error:  # jinja2's; templates of some models for images want lists of parts as content
            raise ValueError(
                f"tokenizer: expected a chat template that shows messages of text, got an error: {error}"
            ) from error
        written = [before + turn.content for before, turn in zip(shown, (_PROBE[2], _PROBE[4]), strict=False)]
        self.rewrites = not all(after.startswith(before) for before, after in zip(written, shown[1:], strict=True))
        asked = self.render([_ASKED])
        before, _, behind = asked.partition(_ASKED.content)
        self.whole = not behind and self.encode(before) == list(tokenizer("")["input_ids"])
        _, thinks, closed = asked.rpartition(THINK)
        self.opening = thinks + closed if thinks and THOUGHT not in closed else ""
        self._shifts = self.encode("x") != self._after("\n", "x")
        self._asks = asked[self._last_control(asked) :]
        self._learn_turn(asked, set(self._controls(before)) - set(self._controls(behind)[:1]))

    def _learn_turn(self, asked: str, openers: set[int]) -> None:
        """Learn the template's text around an assistant's: `_lead` before it, and `_tail` behind it, with the end of the turn.

        `_through` maps each token that may end a turn to the token up to which the text behind an earlier turn repeats that
        end. openers: the tokens that begin turns.
        """
        rest, last = self._rest([_ASKED]), ""
        with suppress(Exception):  # templates may refuse messages that don't end with the user's
            last = self.render([_ASKED, _SAID], ask=False)
        begun, _, final = last.partition(_STAND_IN)
        self._lead = ""
        if begun.startswith(asked):
            self._lead = begun[len(asked) :]
        elif self.opening:  # a turn without a thought closes the one that was begun
            self._lead = f"\n{THOUGHT}\n\n"
        earlier, ending, controls = self.encode(rest), self.encode(final), self.control.ids
        common = [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], zip(earlier, ending, strict=False))]
        closing = [token for token in takewhile(lambda token: token not in openers, common) if token in controls]
        at = next((i for i, token in enumerate(earlier) if token in controls), None)
        follows = None if at is None or str(self.tokenizer.decode(earlier[:at])).strip() else earlier[at]
        source, self._through = rest, {token: token for token in closing}
        if not closing and (closing := [token for token in ending if token in controls][:1]):  # gpt-oss: others in the middle
            source = final
            if follows is not None:
                self._through = {closing[0]: follows}
        elif not closing and follows is not None:  # GLM: what begins the next turn
            closing, self._through = [follows], {follows: follows}
        self._tail = ""
        for token in closing:
            name = self.control.names[token]
            self._tail = source[: source.index(name, len(self._tail)) + len(name)]
        end = self.tokenizer.eos_token_id
        self.ends = tuple(dict.fromkeys(closing)) or (() if end is None else (int(end),))
        self.written = sorted({*self.encode(asked), *earlier, *self.ends})

    def _controls(self, text: str) -> list[int]:
        """The control tokens in a text of the template's."""
        return [token for token in self.encode(text) if token in self.control.ids]

    def _last_control(self, text: str) -> int:
        """Position of the last control token of a text; 0 without one."""
        return max([0, *(text.rfind(name) for name in self.control.names.values() if name)])

    def render(self, messages: Sequence[Message], *, ask: bool = True) -> str:
        """The text up to where the assistant's next turn begins; without `ask`, to the end of the last message."""
        if not self.system and messages and messages[0].role == "system":
            system, first, *rest = messages
            messages = [Message(first.role, f"{system.content}\n\n{first.content}"), *rest]
        text = self.tokenizer.apply_chat_template(
            [message._asdict() for message in messages], tokenize=False, add_generation_prompt=ask, **self.kwargs
        )
        assert isinstance(text, str)
        return text

    def encode(self, text: str) -> list[int]:
        """Its tokens, none added: the template writes what special ones there are. No token reaches over a CUT."""
        if CUT in text:
            first, *others = text.split(CUT)
            return [*self.encode(first), *(token for piece in others for token in self._after("\n", piece))]
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _after(self, before: str, text: str) -> list[int]:
        """The tokens of a text that stands behind another: many tokenizers would put a space before its first word."""
        head, both = self.encode(before), self.encode(before + text)
        return both[len(head) :] if both[: len(head)] == head else self.encode(text)

    def _safe(self, messages: Sequence[Message]) -> list[Message]:
        return [Message(role, self.control.cut(for_utf8(text), own=role == "assistant")) for role, text in messages]

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The tokens of the rendered messages; what a system text always begins with is tokenised once.

        Where the template writes one message's text and nothing else, that text is all of the prompt: its tokens are the
        tokenizer's, with those that it adds, and control tokens in it are control tokens.
        """
        if self.whole and len(messages) == 1:
            return list(self.tokenizer(for_utf8(messages[0].content))["input_ids"])
        messages = self._safe(messages)
        text = self.render(messages)
        head, token_ids = self.head(messages[0].content) if messages[0].role == "system" else ("", ())
        if head and text.startswith(head):
            return [*token_ids, *self.encode(text[len(head) :])]
        return self.encode(text)

    def _head(self, system: str) -> tuple[str, tuple[int, ...]]:
        """The beginning that all prompts with this system text share, up to a control token, and its tokens. ("", ()) where
        there is no control token, or where tokens of the parts are not those of the whole."""
        one, two = texts = [self.render((Message("system", system), Message("user", user))) for user in ("one", "Task: two")]
        common = next(one[:i] for i in range(len(one), -1, -1) if two.startswith(one[:i]))
        head = common[: self._last_control(common)]
        token_ids = self.encode(head)
        if all(token_ids + self.encode(text[len(head) :]) == self.encode(text) for text in texts):
            return head, tuple(token_ids)
        return "", ()

    def after_turn(self, messages: Sequence[Message], last: int | None = None) -> list[int]:
        """The tokens from the end of an assistant's turn, over `messages`, to where its next turn begins.

        Args: last: the last token of the turn; if it is the end of the turn, that end is not written again.
        """
        rest = self._rest(self._safe(messages))
        token_ids = self._after(_STAND_IN, rest) if self._shifts else self.encode(rest)
        through = self._through.get(last) if last is not None else None
        return token_ids if through not in token_ids else token_ids[token_ids.index(through) + 1 :]

    def _rest(self, messages: Sequence[Message]) -> str:
        text = self.render([_ASKED, _SAID, *messages])
        _, shown, rest = text.partition(_STAND_IN)
        if not shown:
            raise ValueError(f"tokenizer: expected a chat template that shows messages of text, got one that made {text!r}")
        return rest

    def reply_ids(self, text: str) -> list[int]:
        """The tokens of a turn that nobody sampled, from the generation prompt to the end of the turn, as the template renders
        it: with the space of Llama 2, say, or an empty thought where the template thinks. A text with a thought of its own
        goes on in the thought that the generation prompt has begun."""
        text = self.control.cut(for_utf8(text), own=True)
        if not text.lstrip().startswith(THINK):
            text = self._lead + text
        elif self.opening:
            text = text.removeprefix(self.opening).removeprefix(THINK)
        token_ids = self._after(self._asks, text + self._tail) if self._shifts else self.encode(text + self._tail)
        return token_ids if self._tail else [*token_ids, *self.ends]

    def text_of(self, token_ids: Sequence[int], *, thought: bool = True) -> str:
        """The text of a sampled turn, without its end. With `thought` it begins with the thought that the generation prompt
        has opened, if any."""
        said = token_ids[:-1] if token_ids and token_ids[-1] in self.ends else token_ids
        parts = groupby(said, self.control.thoughts.__contains__)
        text = "".join(str(self.tokenizer.decode(list(part), skip_special_tokens=not tags)) for tags, part in parts)
        return self.opening + text if thought else text


def template_of(tokenizer: Any) -> str | None:
    """The tokenizer's chat template, if it has one; of several, which have names, the default. Raises: ValueError for several
    without a default."""
    found = tokenizer.chat_template
    return str(tokenizer.get_chat_template()) if isinstance(found, dict) else found


def chat_of(tokenizer: Any, template_kwargs: Mapping[str, Any] | None = None) -> Chat:
    """The tokenizer's chat template as it is now. Raises: ValueError for none, or one that doesn't show texts; TypeError for
    arguments that are not hashable."""
    kwargs = tuple(sorted((template_kwargs or {}).items()))
    try:
        hash(kwargs)
    except TypeError:
        raise TypeError(f"chat_template_kwargs: expected hashable values, got {dict(kwargs)!r}") from None
    return _cached(tokenizer, template_of(tokenizer), kwargs)


@lru_cache(maxsize=16)
def _cached(tokenizer: Any, chat_template: str | None, kwargs: tuple[tuple[str, Any], ...]) -> Chat:
    return Chat(tokenizer, dict(kwargs))


def ends_of_turn(
    tokenizer: Any, template_kwargs: Mapping[str, Any] | None = None, models: Iterable[Any] = ()
) -> tuple[int, ...]:
    """The tokens that end a sampled turn: the template's end, the tokenizer's end of sequence, and all that the generation
    configurations of the models name (Gemma's <end_of_turn>, Llama's <|eom_id|>), if the models can sample them.

    Raises: as `check_tokens`.
    """
    models = list(models)
    least = check_tokens(tokenizer, template_kwargs, models)
    ends = {*chat_of(tokenizer, template_kwargs).ends, tokenizer.eos_token_id}
    for model in models:
        named = getattr(model.generation_config, "eos_token_id", None)
        ends |= set(named) if isinstance(named, list | tuple) else {named}
    return tuple(sorted(end for end in ends if end is not None and end < least))


def check_tokens(tokenizer: Any, template_kwargs: Mapping[str, Any] | None, models: Iterable[Any]) -> int:
    """The fewest tokens that one of the models knows. A tokenizer may have more, which no text of a run may ever make.

    Raises: ValueError where the chat template itself writes a token that a model has no row for.
    """
    least = min((int(model.config.get_text_config(decoder=True).vocab_size) for model in models), default=sys.maxsize)
    chat = chat_of(tokenizer, template_kwargs)
    beyond = [token for token in chat.written if token >= least]
    if beyond:
        raise ValueError(
            f"tokenizer: expected a chat template of the {least} tokens that the model knows, got {beyond[0]} "
            f"({tokenizer.convert_ids_to_tokens(beyond[0])!r}); model.resize_token_embeddings makes room for it"
        )
    return least
