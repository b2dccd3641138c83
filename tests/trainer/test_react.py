"""The grammar by example; test_react_fuzz.py has the laws."""

import time

import pytest

from trainer.react import Action, Answer, Malformed, parse, render

ORDER = Action("get_order", {"order_id": "O00001"}, "I need the order.")
CASES = [
    ('Thought: I need the order.\nAction: get_order\nAction Input: {"order_id": "O00001"}', ORDER),
    ('Action: get_order\nAction Input: {"order_id": "O00001"}', Action("get_order", {"order_id": "O00001"})),
    ("Thought: It has shipped.\nFinal Answer: Your order has shipped.", Answer("Your order has shipped.", "It has shipped.")),
    ("Final Answer: 您的订单已发货。", Answer("您的订单已发货。")),
    ('Thought: a\nb\n\nc\nAction: f\nAction Input: {"x": [1, 2.5, null, {"y": "é"}]}',
     Action("f", {"x": [1, 2.5, None, {"y": "é"}]}, "a\nb\n\nc")),
    ("<think>\nFinal Answer: 5?\nAction: no\n</think>\n\nFinal Answer: 4", Answer("4", "Final Answer: 5?\nAction: no")),
    ("Thought: an Action: in a line\nFinal Answer: x\nAction: text\n\n", Answer("x\nAction: text", "an Action: in a line")),
]  # fmt: skip


@pytest.mark.parametrize(("text", "step"), CASES)
def test_it_reads_and_writes(text: str, step: Action | Answer) -> None:
    assert parse(text) == step
    assert parse(text.encode()) == step
    assert render(step) == text.rstrip()


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ('  \nThought:I need the order.\r\nAction:get_order\r\n\r\nAction Input:\n{"order_id":\n "O00001"}\n \n', ORDER),
        ("Thought:\nFinal Answer:\n\nyes", Answer("yes")),
        ("<think>\n2 + 2 is 4.\n</think>\n\nFinal Answer: 4", Answer("4", "2 + 2 is 4.")),
        ("\n<think>a</think>Thought: b\nFinal Answer: the tag is </think>", Answer("the tag is </think>", "a\nb")),
        ("<think>\n\n</think>\n\nAction: t\nAction Input: {}", Action("t", {})),
        ("Thought: <think>\nFinal Answer: 4", Answer("4", "<think>")),
        ("Action: t\nAction Input: {}", Action("t", {})),
        ('Action: t\nAction Input: {"x": "\\ud83d\\ude00"}', Action("t", {"x": "😀"})),
        ("Action: t\nAction Input: " + '{"a":' * 31 + "{}" + "}" * 31, None),
    ],
)
def test_white_space_and_spelling_are_free(text: str, step: Action | Answer | None) -> None:
    got = parse(text)
    assert isinstance(got, Action) if step is None else got == step


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "got none"),
        ("I will look at the order.", "got none"),
        ("Thought: only", "got none"),
        ("thought: x\naction: y\naction input: {}", "got none"),
        ("Sure!\nAction: f\nAction Input: {}", "at the start"),
        ("Thought: x\nFinal Answer: \n ", "got nothing"),
        ("<think>\nFinal Answer: 4", "expected '</think>' and an action after it, got a thought without an end"),
        ("<think>", "a thought without an end"),
        ("<think>a</think>", "got none"),
        ("<think>a</think>Sure!\nFinal Answer: 4", "at the start"),
        ("<think>a</think>Thought: </think>\nFinal Answer: 4", "no second '</think>'"),
        ("a</think>\nFinal Answer: 4", "at the start"),
        ("Action: f", "on the line after"),
        ("Action: f\nFinal Answer: x", "on the line after"),
        ("Action: f Action Input: {}", "on the line after"),
        ("Action:\nAction Input: {}", "on the line after"),
        ("Action: get order\nAction Input: {}", "one name"),
        ("Action: f()\nAction Input: {}", "one name"),
        ("Action: é\nAction Input: {}", "one name"),
        (f"Action: {'f' * 65}\nAction Input: {{}}", "one name"),
        ("Action: f\nAction: g\nAction Input: {}", "one name"),
        ("Action: f\nAction Input: {}\nAction: g\nAction Input: {}", "Extra data"),
        ("Action: f\nAction Input: {}\nObservation: done\nFinal Answer: x", "Extra data"),
        ("Action: f\nAction Input: {} and more", "Extra data"),
        ("Action: f\nAction Input: ```json\n{}\n```", "Expecting value"),
        ("Action: f\nAction Input:", "Expecting value"),
        ("Action: f\nAction Input: {'x': 1}", "double quotes"),
        ("Action: f\nAction Input: [1]", "another JSON value"),
        ('Action: f\nAction Input: "x"', "another JSON value"),
        ('Action: f\nAction Input: {"x": NaN}', "NaN is no JSON"),
        ('Action: f\nAction Input: {"x": -Infinity}', "-Infinity is no JSON"),
        ('Action: f\nAction Input: {"x": 1e999}', "out of range"),
        ('Action: f\nAction Input: {"x": 1, "y": {"z": 1, "z": 1}}', "twice"),
        ('Action: f\nAction Input: {"x": ' + "9" * 5000 + "}", "digits"),
        ('Action: f\nAction Input: {"x": "\\ud800"}', "unpaired surrogate"),
        ('Action: f\nAction Input: {"\\udfff": 1}', "unpaired surrogate"),
        ("Final Answer: \ud800", "unpaired surrogate"),
        (b"Final Answer: \xff", "not UTF-8"),
        ("Action: f\nAction Input: " + '{"a":' * 32 + "{}" + "}" * 32, "32 levels"),
        ("Action: f\nAction Input: " + '{"a":' * 100_000, "32 levels"),
        ("Action: f\nAction Input: " + "[" * 100_000 + "]" * 100_000, "32 levels"),
    ],
)
def test_what_is_malformed_says_why(text: str | bytes, reason: str) -> None:
    got = parse(text)
    assert isinstance(got, Malformed)
    assert reason in got.reason


@pytest.mark.parametrize(
    "step",
    [
        Answer(""),
        Answer(" x"),
        Answer("x", "so </think>\nFinal Answer: y"),
        Answer("x", "trailing "),
        Answer("x\ud800"),
        Action("two words", {}),
        Action("f", {}, "so\nAction: g\n</think>"),
        Action("f", {"x": float("nan")}),
        Action("f", {"x": (1, 2)}),
        Action("f", {1: 2}),  # type: ignore[dict-item]
        Action("f", {"x": {1, 2}}),
        Action("f", {"x": object()}),
    ],
)
def test_render_refuses_what_it_could_not_read_back(step: Action | Answer) -> None:
    with pytest.raises(ValueError, match=r"step: expected|JSON compliant"):
        render(step)


@pytest.mark.parametrize(
    "unit",
    ["Thought:", "Action:", "\n", " ", "\nAction Input:", "Action: f\nAction Input: {", '"', "\\u", "{}", "9", "\r", "["],
)
def test_time_is_linear(unit: str) -> None:
    """A hundred times the text in less than a thousand times the time, where a quadratic parser takes ten thousand."""

    def seconds(size: int) -> float:
        texts = [head + unit * (size // len(unit)) for head in ("", "Thought: x\nAction: f\nAction Input: ")]
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            for text in texts:
                parse(text)
            best = min(best, time.perf_counter() - start)
        return best

    assert seconds(500_000) < 1000 * max(seconds(5_000), 20e-6)
