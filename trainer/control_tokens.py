"""The tokens of a tokenizer that are markup, and texts that cannot spell them.

Control tokens begin and end turns, sequences and thoughts. Only a chat template, and a model that samples them, may write them.
Otherwise ten ordinary tokens of one agent, or a tool's result, that read `<|im_end|>` would end a turn in another's context.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

from trainer.react import THINK, THOUGHT

CUT = "\ufdd0"  # a noncharacter, which Unicode keeps for internal use; a text that has one gets U+FFFD for it
_MARKUP = re.compile(r"[<>\[\]{}|]")
_BARRED = re.compile(r"<[|｜].+>|<.+[|｜]>")  # only control tokens have this form; added tokens may be tags of HTML


class ControlTokens:
    """The control tokens of a tokenizer with its chat template: {id: text} in `names`, the ids in `ids`.

    They are all that the tokenizer declares special (`all_special_ids`, and what has special=True among its added tokens:
    Gemma's <end_of_turn> is only there), and two kinds of added tokens without that flag: those with a bar inside their angle
    brackets (DeepSeek's <｜User｜>, Qwen's <|fim_prefix|>), and those that look like markup and stand in a chat template
    (Qwen's <think> and <tool_call>). Other added tokens, such as runs of spaces, are ordinary text.

    thoughts: the ids of <think> and </think> where the tokenizer declares them special; what an agent says keeps them.
    """

    def __init__(self, tokenizer: Any) -> None:
        added = {int(i): token for i, token in tokenizer.added_tokens_decoder.items()}
        special = {i: token.content for i, token in added.items() if token.special}
        special |= dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
        self.thoughts = frozenset(i for i, name in special.items() if name in (THINK, THOUGHT))
        special |= {i: token.content for i, token in added.items() if _BARRED.fullmatch(token.content)}
        templates = tokenizer.chat_template
        template = "\n".join(templates.values()) if isinstance(templates, dict) else str(templates)
        written = {i: t.content for i, t in added.items() if _MARKUP.search(t.content) and t.content in template}
        self.names: dict[int, str] = special | written
        self.ids = frozenset(self.names)
        # A padding token may be an ordinary one ("!"), which no text can do without.
        spelled = {name for i, name in special.items() if len(name) > 1 and (i in added or _MARKUP.search(name))}
        normalizer = getattr(getattr(tokenizer, "backend_tokenizer", None), "normalizer", None)
        if not any(added[i].normalized for i in self.names if i in added):
            normalizer = None
        self._cut_special = _cutter(spelled - {THINK, THOUGHT}, normalizer)
        self._cut_all = _cutter(spelled | set(written.values()), normalizer)

    def cut(self, text: str, *, own: bool = False) -> str:
        """The text with CUT inside each control token that it spells; the same object where it spells none.

        Args: own: a text of the agent whose context it is for. It may hold tags of the template such as <think>.
        """
        return self._cut_special(text) if own else self._cut_all(text)


def _cutter(names: Iterable[str], normalizer: Any) -> Callable[[str], str]:
    """Args: normalizer: names are also looked for in the text as the tokenizer normalises it (in lower case, say)."""
    known = set(names)
    if normalizer is not None:
        known |= {normalizer.normalize_str(name) for name in known} - {""}
    heads = sorted({name[:2] for name in known})
    spelled = re.compile("|".join(re.escape(name) for name in sorted(known, key=len, reverse=True)) or "(?!)")

    def cut(text: str) -> str:
        if CUT in text:
            text = text.replace(CUT, "\ufffd")
        text = parted(text)
        return text if normalizer is None else CUT.join(map(folded, text.split(CUT)))

    def folded(piece: str) -> str:
        normalised = str(normalizer.normalize_str(piece))
        return parted(normalised) if spelled.search(normalised) else piece

    def parted(text: str) -> str:
        if not any(head in text for head in heads):  # many times faster than the expression, and nearly always enough
            return text
        return spelled.sub(lambda found: f"{found[0][0]}{CUT}{found[0][1:]}", text)

    return cut
