"""Math, one call: baskets, percentages, unit prices, bills; and what all of Math shares."""

from typing import NamedTuple

from trainer.hima_ecom.tasks import wording as w
from trainer.hima_ecom.tasks.builder import Builder, Expert
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.phrases import Phrases
from trainer.hima_ecom.tasks.pools import held_out


class Item(NamedTuple):
    """Something that is bought: one, several, in Chinese, and its Chinese measure word."""

    one: str
    many: str
    zh: str
    measure: str


_WORDS = (
    "notebook/notebooks/笔记本/本", "lamp/lamps/台灯/盏", "mug/mugs/杯子/个", "towel/towels/毛巾/条", "chair/chairs/椅子/把",
    "backpack/backpacks/背包/个", "candle/candles/蜡烛/支", "cushion/cushions/靠垫/个", "kettle/kettles/水壶/个",
    "mouse pad/mouse pads/鼠标垫/个", "cable/cables/数据线/条", "parasol/parasols/遮阳伞/把", "basket/baskets/篮子/个",
    "pillow/pillows/枕头/个", "bottle/bottles/水瓶/个", "board game/board games/桌游/套", "pen/pens/钢笔/支",
    "rug/rugs/地毯/块", "blanket/blankets/毯子/条", "clock/clocks/时钟/个", "vase/vases/花瓶/个", "shelf/shelves/架子/个",
    "tea towel/tea towels/茶巾/条", "puzzle/puzzles/拼图/盒", "scarf/scarves/围巾/条", "tray/trays/托盘/个", "bowl/bowls/碗/只",
    "hammer/hammers/锤子/把", "torch/torches/手电筒/支", "belt/belts/皮带/条", "stool/stools/凳子/张",
    "wallet/wallets/钱包/个",
)  # fmt: skip
ITEMS = tuple(Item(*words.split("/")) for words in _WORDS)
CURRENCIES = ("USD", "EUR", "GBP")
BASKET = Phrases(
    (
        "I put {lines} into my basket. What is the total in {cur}?", "What do {lines} cost together, in {cur}?",
        "Please add up my shopping in {cur}: {lines}.", "My list has {lines}. How much will I pay for everything, in {cur}?",
        "Total price in {cur} of {lines}?",
    ),
    (
        "{lines}: which sum in {cur} should appear at the checkout?",
        "Before I order {lines}, tell me what leaves my account in {cur}.",
    ),
    ("我买 {lines}，一共多少 {cur}？", "{lines}，请算出总价（{cur}）。"),
    ("购物车里有 {lines}，结账时要付多少 {cur}？",),
)  # fmt: skip
DISCOUNT = Phrases(
    (
        "A {item} costs {price} {cur} and is reduced by {rate} percent. What is the new price?",
        "What do I pay for a {item} of {price} {cur} with {rate}% off?",
        "There is a {rate} percent discount on the {item}, which normally sells for {price} {cur}. How much is it now?",
        "Take {rate}% off {price} {cur} for a {item}. What remains?",
    ),
    (
        "The {item} carries a red label, minus {rate} percent; on the old label stands {price} {cur}. What will the till say?",
        "With a voucher worth {rate} percent, what becomes of the {price} {cur} of this {item}?",
    ),
    ("{item}原价 {price} {cur}，降价 {rate}% 后是多少？", "标价 {price} {cur} 的{item}减 {rate}%，要付多少？"),
    ("这{measure}{item}便宜了 {rate}%，之前卖 {price} {cur}，现价多少？",),
    (
        "On the old label of the {item} stands {price} {cur}; the red label says minus {rate} percent. What do I pay?",
        "What becomes of {price} {cur} for the {item}, minus {rate} percent?",
        "I have a voucher worth {rate} percent for this {item} of {price} {cur}. What will I pay at the till?",
        "The till will take {rate} percent from the {price} {cur} of the {item}. What is left?",
        "The {item} carries a red label: minus {rate}%. It was {price} {cur}. What will it be?",
    ),
)  # fmt: skip
CHANGE = Phrases(
    (
        "The price of a {item} went from {old} to {new} {cur}. By how many percent did it {move}?",
        "A {item} was {old} {cur} and now is {new} {cur}. What is the {move} in percent?",
        "By what percentage did the price of the {item} {move}, from {old} {cur} before to {new} {cur} today?",
        "Last year I paid {old} {cur} for a {item}, this year {new} {cur}. How large is the {move} as a percentage?",
    ),
    (
        "Old tag of the {item}: {old} {cur}. New tag: {new} {cur}. State the {move} relative to the old one, in percent.",
        "How strong, in percent, is the {move} of a price that moved from {old} {cur} to {new} {cur}, that of a {item}?",
    ),
    (
        "{item}的价格从 {old} {cur} 变成 {new} {cur}，{move}了百分之几？",
        "{item}以前 {old} {cur}，现在 {new} {cur}，{move}幅度是百分之多少？",
    ),
    ("相对原价 {old} {cur}，{item}现在卖 {new} {cur}，{move}的百分比是多少？",),
    (
        "The old tag of the {item} says {old} {cur}, the new tag {new} {cur}. What is the {move} in percent?",
        "State the {move} in percent of the {item}: {old} {cur} was the old price, {new} {cur} is the new one.",
        "A price moved from {old} {cur} to {new} {cur}. How strong is that {move} of the {item}, in percent?",
        "How strong was the {move} for the {item}, relative to {old} {cur}, now that it is {new} {cur}, in percent?",
        "{item}, old: {old} {cur}, new: {new} {cur}. The {move} in percent?",
    ),
)  # fmt: skip
UNIT_PRICE = Phrases(
    (
        "A bag of {size} kg costs {price} {cur}. What is the price per kg?",
        "What does one kilogram cost if {size} kg cost {price} {cur}?",
        "I paid {price} {cur} for {size} kg of coffee. How much is that for each kg?",
        "Please work out the {cur} per kg: {size} kg for {price} {cur}.",
    ),
    (
        "To compare offers I need the kilogram price of a sack that holds {size} kg and sells at {price} {cur}.",
        "{price} {cur} buys {size} kg. Break that down to a single kilogram.",
    ),
    ("{size} kg 装卖 {price} {cur}，每 kg 多少钱？", "我花 {price} {cur} 买了 {size} kg 咖啡，每 kg 合多少 {cur}？"),
    ("一袋 {size} kg，售价 {price} {cur}，折合每 kg 的价格是多少？",),
    (
        "A sack holds {size} kg and sells at {price} {cur}. What is the kilogram price?",
        "What does a single kilogram cost if {price} {cur} buys {size} kg?",
        "Break {price} {cur} for {size} kg down to one kg.",
        "To compare, I need the price of a single kilogram: {size} kg sell at {price} {cur}.",
        "I compare offers: {size} kg in a sack for {price} {cur}. The price of each kg, please.",
    ),
)  # fmt: skip
TIP = Phrases(
    (
        "Our dinner cost {bill} {cur}. With a {rate} percent tip, split among {people}, what does each of us pay?",
        "Split {bill} {cur} plus {rate}% tip equally between {people} people. How much is it for one?",
        "The bill is {bill} {cur}; we add {rate} percent for the waiter and divide by {people}. What is one part?",
        "We are {people} and owe {bill} {cur}, and we tip {rate}%. What is the share of each?",
    ),
    (
        "{people} friends, one bill of {bill} {cur}, service {rate} percent on top: what should every friend hand over?",
        "What is my part, if {bill} {cur} and a gratuity of {rate}% are borne by {people} of us in equal measure?",
    ),
    (
        "晚饭 {bill} {cur}，加 {rate}% 小费，{people} 个人平分，每人付多少？",
        "账单 {bill} {cur}，另付 {rate}% 小费，由 {people} 人均摊，一人多少？",
    ),
    ("我们 {people} 个人吃了 {bill} {cur}，小费 {rate}%，平均每人出多少？",),
    (
        "{people} friends have a bill of {bill} {cur} and put {rate} percent on top. What should every friend pay?",
        "A bill of {bill} {cur}, a gratuity of {rate} percent, {people} of us: what is my part?",
        "With service of {rate}% on top of {bill} {cur}, what should each of {people} friends hand over?",
        "{bill} {cur} and {rate}% gratuity are borne in equal measure by {people}. How much is one part?",
        "Every one of {people} should hand over how much, if {bill} {cur} plus {rate} percent service is the bill?",
    ),
)  # fmt: skip


def number(b: Builder, low: int, high: int) -> int:
    """A random whole number."""
    return b.rng.randint(low, high)


def price(b: Builder, low: float, high: float) -> str:
    """A random price with cents, between whole amounts."""
    return f"{b.rng.randint(round(low * 100), round(high * 100)) / 100:.2f}"


def items(b: Builder, count: int) -> list[Item]:
    """Different items; those of the test split never occur in training."""
    return b.rng.sample([item for item in ITEMS if held_out(item.one) == b.pools.test], count)


def named(b: Builder, item: Item) -> str:
    """One of an item, in the query's language."""
    return item.zh if b.zh else item.one


def some_numbers(b: Builder, count: int, low: int, high: int) -> list[int]:
    """Different whole numbers."""
    return b.rng.sample(range(low, high), count)


def listed(b: Builder, values: list[int] | list[str]) -> str:
    """Values as a query lists them."""
    return w.pick(b, (", ", "、")).join(map(str, values))


def mathematician(b: Builder, task: str) -> Expert:
    """The math agent with a task."""
    return b.delegate("math", task, "Something to compute; the math agent does it.")


def calculate(expert: Expert, thought: str, expression: str) -> str:
    """The result of an expression."""
    return str(expert.call("calculate", thought, expression=expression)["result"])


def solve(expert: Expert, thought: str, equation: str) -> str:
    """The x of an equation."""
    return str(expert.call("solve_linear", thought, equation=equation)["x"])


def money(b: Builder, math: Expert, result: str, cur: str, en: str, zh: str) -> None:
    """Answers with an amount of money: `en` and `zh` hold {answer}."""
    answer = f"{w.rounded(result, 2)} {cur}"
    math.answer(f"It is {answer}.")
    b.expect_number(w.rounded(result, 2), cur)
    w.finish(b, en.format(answer=answer), zh.format(answer=answer))


@family("math", 1)
def basket(b: Builder) -> None:
    """The total of a basket."""
    bought = [(number(b, 2, 9), item, price(b, 2, 90)) for item in items(b, number(b, 2, 4))]
    cur = b.rng.choice(CURRENCIES)
    english = [f"{count} {item.many} at {each}" for count, item, each in bought]
    chinese = [f"{count} {item.measure}{item.zh}（每{item.measure} {each}）" for count, item, each in bought]
    joined = f"{', '.join(english[:-1])} and {english[-1]}"
    w.ask(b, b.phrase(BASKET, lines="、".join(chinese) if b.zh else joined, cur=cur))
    math = mathematician(b, f"What is the total in {cur} of {joined}?")
    total = calculate(math, "Each count times its price, added up.", " + ".join(f"{n} * {each}" for n, _, each in bought))
    money(b, math, total, cur, "The total is {answer}.", "一共是 {answer}。")


@family("math", 1)
def discount(b: Builder) -> None:
    """A price less some percent."""
    (item,), cost, rate, cur = items(b, 1), price(b, 8, 900), number(b, 3, 65), b.rng.choice(CURRENCIES)
    w.ask(b, b.phrase(DISCOUNT, item=named(b, item), measure=item.measure, price=cost, rate=rate, cur=cur))
    math = mathematician(b, f"What is {cost} {cur} less {rate} percent?")
    left = calculate(math, f"{100 - rate} percent remain; I round to cents.", f"round({cost} * (100 - {rate}) / 100, 2)")
    money(b, math, left, cur, "The new price is {answer}.", "现价是 {answer}。")


@family("math", 1)
def percent_change(b: Builder) -> None:
    """By how many percent a price rose or fell."""
    (item,), cur, places = items(b, 1), b.rng.choice(CURRENCIES), number(b, 1, 2)
    low, high = sorted((price(b, 10, 400), price(b, 10, 400)), key=float)
    up = b.rng.random() < 0.5
    old, new = (low, high) if up else (high, low)
    move = w.pick(b, (("increase", "上涨") if up else ("decrease", "下降")))
    w.ask(b, b.phrase(CHANGE, item=named(b, item), old=old, new=new, cur=cur, move=move), w.say_places(b, places))
    math = mathematician(b, f"By how many percent do {old} and {new} differ, relative to {old}? Round to {places} decimals.")
    share = calculate(math, f"The difference divided by {old}.", f"round(({high} - {low}) / {old} * 100, {places})")
    rounded = w.rounded(share, places)
    math.answer(f"It is {rounded} percent.")
    b.expect_number(rounded, None, w.tolerance(places))
    w.finish(b, f"It is {'an increase' if up else 'a decrease'} of {rounded} percent.", f"{move}了 {rounded} %。")


@family("math", 1)
def unit_price(b: Builder) -> None:
    """The price of a kilogram."""
    size, cost, cur = number(b, 12, 190) / 10, price(b, 5, 300), b.rng.choice(CURRENCIES)
    w.ask(b, b.phrase(UNIT_PRICE, size=size, price=cost, cur=cur))
    math = mathematician(b, f"What is the price of one kg if {size} kg cost {cost} {cur}?")
    each = calculate(math, "The price divided by the weight, in cents.", f"round({cost} / {size}, 2)")
    money(b, math, each, cur, "One kilogram costs {answer}.", "每公斤 {answer}。")


@family("math", 1)
def tip_split(b: Builder) -> None:
    """A bill with a tip, split equally."""
    bill, rate, people, cur = price(b, 30, 600), number(b, 4, 22), number(b, 3, 12), b.rng.choice(CURRENCIES)
    w.ask(b, b.phrase(TIP, bill=bill, rate=rate, people=people, cur=cur))
    math = mathematician(b, f"{bill} {cur} plus {rate} percent is split among {people} people. What does one pay?")
    each = calculate(math, "The bill with the tip, divided, in cents.", f"round({bill} * (100 + {rate}) / 100 / {people}, 2)")
    money(b, math, each, cur, "Each pays {answer}.", "每人付 {answer}。")
