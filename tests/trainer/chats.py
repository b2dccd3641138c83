"""Tokenizers of every manner, made here, and the chat templates of real models, which TRL's package has."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import LlamaTokenizer, PreTrainedTokenizerFast

from trainer.dialogue import CHATML

LLAMA2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
)


def byte_tokenizer(
    special: tuple[str, ...] = ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *,
    eos: str = "<|endoftext|>",
    template: str | None = CHATML,
    added: tuple[str, ...] = (),
    normalizer: normalizers.Normalizer | None = None,
    **named: Any,
) -> PreTrainedTokenizerFast:
    """A token a byte, then `special`, which no list names but as special=True among the added tokens, then others, `added`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    if normalizer is not None:
        inner.normalizer = normalizer
    inner.add_special_tokens([AddedToken(token, special=True, normalized=normalizer is not None) for token in special])
    inner.add_tokens([AddedToken(token, normalized=False) for token in added])
    made = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=eos, **named)
    made.chat_template = template
    return made


def marked_tokenizer(**options: Any) -> PreTrainedTokenizerFast:
    """One that puts <s> before every text."""
    made = byte_tokenizer(("<s>", "</s>", "<|im_start|>", "<|im_end|>"), eos="</s>", bos_token="<s>", **options)
    made.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", made.bos_token_id)])
    return made


def llama_tokenizer(*, bos: bool, template: str | None = None) -> LlamaTokenizer:
    """As transformers makes Llama 2's: a space before the first word of a text, none behind a special token."""
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2}
    joined = ["▁", "▁T", "▁Th", "▁The", "▁A", "▁I", "▁x"]
    for piece in (*(f"<0x{byte:02X}>" for byte in range(256)), *map(chr, range(33, 127)), *joined):
        vocab.setdefault(piece, len(vocab))
    merges = [("▁", "T"), ("▁T", "h"), ("▁Th", "e"), ("▁", "A"), ("▁", "I"), ("▁", "x")]
    made = LlamaTokenizer(vocab=vocab, merges=merges, add_bos_token=bos)
    made.chat_template = template
    return made


def trl_template(name: str) -> str:
    """The chat template of a model in TRL's package."""
    trl = pytest.importorskip("trl")
    return (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text()
