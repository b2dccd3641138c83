"""What a final answer says: its words and numbers in one normal form, each test a pure function with a score in [0, 1]."""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from difflib import SequenceMatcher
from fractions import Fraction
from functools import lru_cache

from trainer.hima_ecom.quantities import MONTH, in_unit, quantities, worded_quantities

# A word of letters and digits with inner . - ' (P0001, 2026-06-15, 3.5) or, between digits, : and , (14:30), or one Chinese
# character.
_TOKEN = re.compile(r"[㐀-鿿]|[^\W_㐀-鿿]+(?:(?:[.'\-]|(?<=\d)[,:](?=\d))[^\W_㐀-鿿]+)*")
_DAY_AFTER = re.compile(rf"\b({MONTH})\s+0?(\d{{1,2}})(?:st|nd|rd|th)?\b", re.IGNORECASE)
_DAY_BEFORE = re.compile(rf"\b0?(\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?({MONTH})", re.IGNORECASE)
_SLASHES = re.compile(r"\b(\d{4})/(\d{2})/(\d{2})\b")
MAX_WORDS = 120  # of an answer; a longer one is not an answer but a dump
MAX_LETTERS = 4000  # likewise; within them every number can be read

_REFUSALS = (
    "cannot", "can't", "can not", "could not", "couldn't", "can no longer", "unable", "not able", "not possible", "no longer",
    "impossible", "too late", "not allowed", "not permitted", "not eligible", "not available", "not known", "unknown",
    "not valid", "invalid", "expired", "not found", "no information", "do not have", "don't have", "do not know", "don't know",
    "does not exist", "doesn't exist", "no such", "no rate", "no solution", "contradict", "never", "need more information",
    "please tell me", "please let me know", "could you tell me", "can you tell me", "please specify", "please confirm",
    "clarify",
    "which order", "which one", "sorry", "unfortunately", "refused", "declined", "won't", "will not", "isn't possible",
    "无法", "不能", "不可", "不行", "不支持", "没法", "抱歉", "对不起", "遗憾", "没有", "未找到", "找不到", "查不到", "不存在",
    "请告诉", "请提供",
    "请确认", "请说明", "哪一", "哪个", "哪笔", "无解", "矛盾",
)  # fmt: skip


@lru_cache(maxsize=16384)
def _tokens(text: str) -> tuple[str, ...]:
    text = unicodedata.normalize("NFKC", text)
    text = _DAY_BEFORE.sub(r"\1 \2", _DAY_AFTER.sub(r"\1 \2", _SLASHES.sub(r"\1-\2-\3", text)))
    return tuple(_TOKEN.findall(text.lower()))


def tokens(text: str) -> list[str]:
    """The words of a text: NFKC, lower case, without punctuation; Chinese by characters. "01 May", "May 1st" and "the 1st of
    May" have the words of "1 May" and "May 1"; 2026/05/01 is 2026-05-01."""
    return list(_tokens(text))


def _places(words: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Where `wanted` begins in `words`."""
    span = len(wanted)
    return [i for i in range(len(words) - span + 1) if words[i : i + span] == wanted] if wanted else []


def own_words(answer: str, query: str) -> list[str]:
    """The words of an answer without those that repeat the query: runs of the same words that are three quarters of it or more,
    and six words or all of it (a short question and its answer share most of their words)."""
    words, asked = tokens(answer), tokens(query)
    least = min(len(asked), max(6, 3 * len(asked) // 4))
    while 0 < least <= len(words):
        run = SequenceMatcher(None, words, asked, autojunk=False).find_longest_match()
        if run.size < least:
            break
        del words[run.a : run.a + run.size]
    return words


def prefers(answer: str, values: Sequence[str], others: Sequence[str], query: str) -> bool:
    """Whether an answer names one of `values`, and rather than any of `others`: more often, or as often and first, without
    "or". What repeats the query names nothing.

    So "the red one is heavier than the blue one" is for red, and "red weighs 2 kg and blue 3 kg, so it is blue" for blue.
    """
    words = own_words(answer, query)
    right, wrong = _most_named(words, values), _most_named(words, others)
    if right[0] == wrong[0] and any(_places(words, tokens(either)) for either in ("or", "或", "还是")):
        return False
    return right[0] > 0 and right > wrong


def _most_named(words: Sequence[str], values: Sequence[str]) -> tuple[int, int]:
    """(how often the most frequent of the values occurs, minus the place of its first)."""
    places = [_places(words, tokens(value)) for value in values]
    return max(((len(found), -found[0]) for found in places if found), default=(0, 0))


def f1(text: str, value: str) -> float:
    """The harmonic mean of precision and recall of the words, as for SQuAD."""
    words, wanted = Counter(tokens(text)), Counter(tokens(value))
    common = (words & wanted).total()
    return 2 * common / (words.total() + wanted.total()) if common else 0.0


def says_number(answer: str, value: Fraction, unit: str | None, tolerance: Fraction, known: Collection[Fraction]) -> bool:
    """Whether the last number of the answer that can be meant is the value, in its unit or in one that converts to it.

    Those with such a unit are meant where there are any, else those without a unit; with `unit` None all are. So an answer may
    show how it was worked out, and a list of guesses is its last one. Numbers in words count where there are none in digits.

    Args: known: numbers that are not meant, unless they are the value: those of the query and of the answer's other parts.
    """
    bare: list[list[bool]] = []
    for read in (quantities, worded_quantities):
        named: list[bool] = []
        bare.append([])
        for quantity in read(answer):
            meanings = in_unit(quantity, unit)
            right = any(abs(own - value) <= tolerance for own in meanings)
            if meanings and (right or quantity.value not in known):
                (named if unit is not None and quantity.unit is not None else bare[-1]).append(right)
        if named:
            return named[-1]
    return next((rights[-1] for rights in bare if rights), False)


def guesses(answer: str, values: Collection[str], query: str) -> bool:
    """Whether an answer lists ids, dates or times: two or more of the form of one of `values` that are neither these nor in the
    query."""
    known = {word for text in (*values, query) for word in tokens(text)}
    forms = {_form(word) for value in values if len(tokens(value)) == 1 for word in tokens(value) if _has_digit(word)}
    return len({word for word in tokens(answer) if word not in known and _form(word) in forms}) > 1


def _has_digit(word: str) -> bool:
    return any(letter.isdigit() for letter in word)


def _form(word: str) -> str:
    return re.sub(r"[^\W\d_]", "a", re.sub(r"\d", "0", word))


def refuses(answer: str) -> bool:
    """Whether an answer says that something cannot be done or is not known."""
    lowered = unicodedata.normalize("NFKC", answer).lower().replace("’", "'")
    return any(phrase in lowered for phrase in _REFUSALS)


def too_long(answer: str) -> bool:
    """Return True for a dump that might contain anything: more than MAX_LETTERS characters, also in NFKC, or than MAX_WORDS
    words."""
    long = len(answer) > MAX_LETTERS or len(unicodedata.normalize("NFKC", answer)) > MAX_LETTERS
    return long or len(tokens(answer)) > MAX_WORDS


def says_first(answer: str, values: Sequence[str], others: Sequence[str], query: str = "") -> bool:
    """Whether one of the values stands in the answer, beside what repeats the query, and before any of the others."""
    words = own_words(answer, query)
    first = [min((p for v in texts for p in _places(words, tokens(v))), default=len(words)) for texts in (values, others)]
    return first[0] < len(words) and first[0] <= first[1]


def says_any(answer: str, values: Sequence[str], query: str = "") -> bool:
    """Whether one of the values stands in the answer, beside what repeats the query."""
    words = own_words(answer, query)
    return any(_places(words, tokens(value)) for value in values)
