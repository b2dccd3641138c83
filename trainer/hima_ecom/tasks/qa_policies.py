"""QA about the store's policies: return periods by department (a brand's items of a category) and tier."""

from trainer.hima_ecom import rules
from trainer.hima_ecom.base import Row
from trainer.hima_ecom.tasks.builder import Builder, Expert, Skip
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.phrases import Phrases
from trainer.hima_ecom.tasks.pools import department
from trainer.hima_ecom.tasks.qa_products import VALUE, WEIGHT, fact, find, knowledge_question, knowledge_value, product_name

RETURN_DAYS = Phrases(
    (
        "How many days do I have to return something from {category}?", "What is the return period for {category} items?",
        "Within how many days of delivery can {category} items be sent back?",
        "It is from {category}. How long can I return it?",
        "How long is the window for returning {category} products?",
    ),
    ("Suppose an item from {category} has arrived; how many days later must it be back at the latest?",
     "Return deadline for {category}, in days?"),
    ("{category} 类商品几天内可以退货？", "{category} 的退货期限是多少天？"),
    ("{category} 类的东西，收货后多少天之内能退？",),
    (
        "An item from {category} has arrived. In how many days must it be back?",
        "At the latest, how many days later can {category} be returned?",
        "What is the deadline for a return of {category} items, in days?",
        "Suppose I return something from {category}: what deadline, in days, is there?", "{category}: return deadline?",
        "It arrived and is from {category}; how many days until the item must be back at the latest?",
    ),
)  # fmt: skip
GOLD_DAYS = Phrases(
    (
        "I am a gold member. How many days do I have to return {category} items?",
        "How long can gold members return something from {category}?",
        "With gold status, what is the return period for {category}?", "Return window of {category} for a gold customer?",
    ),
    ("Being gold tier, how many days may pass before {category} can no longer go back?",
     "Gold membership and {category}: return days?"),
    ("金卡会员退 {category} 类商品有多少天？", "我是金卡会员，{category} 几天内可以退？"),
    ("作为金卡会员，{category} 的退货期是几天？",),
)  # fmt: skip
OPENED = Phrases(
    (
        "May I return {category} items after opening them?", "Can opened {category} products be sent back?",
        "The box has been opened. Can {category} items still be returned?",
        "Do you accept returns of {category} items that have been unpacked?",
    ),
    ("Is it a problem for a return if my {category} item is no longer sealed?",
    "Unsealed item from {category}: is a return allowed?"),
    ("{category} 类商品拆封后还能退吗？", "打开过的 {category} 可以退货吗？"),
    ("{category} 已经拆开了，还接受退货吗？",),
)  # fmt: skip
LONGER_RETURN = Phrases(
    (
        "Which can I return for longer, {a} or {b}?", "Is the return period longer for {a} or for {b}?",
        "Compare the return windows of {a} and {b}: which is longer?", "Do I have more days to return {a} or {b}?",
    ),
    ("Where are you more generous with returns, {a} or {b}?", "Name the category with more return days: {a} or {b}."),
    ("{a} 和 {b} 哪一类退货期更长？", "{a} 与 {b}，哪个可以退货的天数更多？"),
    ("退货期限长的是 {a} 还是 {b}？",),
)  # fmt: skip
MENTIONED = Phrases(
    (
        "I am thinking of the {name}.", "I may buy the {name}.", "It is about the {name}.",
        "This is a question about the {name}.",
        "My question concerns the {name}.",
    ),
    ("Your {name} is on my mind.", "I have my eye on the {name}."),
    ("我想买 {name}。", "我想了解 {name}。"),
    ("关于 {name}，我有个问题。",),
    (
        "I have had the {name} on my mind.", "My eye is on your {name}.", "I keep my eye on the {name}.",
        "On my mind is the {name}.",
    ),
)  # fmt: skip
WITHIN = Phrases(
    (
        "And within how many days, opened or not?", "How many days are there to return one at all?",
        "Tell me the return period in days, too.", "I also need to know how many days a return may take.",
    ),
    ("And the deadline in days, whatever its state?", "Name the return days as well."),
    ("退货期一共多少天？", "另外，退货期限是几天？"),
    ("顺便说一下退货期有多少天。",),
)  # fmt: skip


MAY = ("yes", "you may", "you can", "may be", "can be", "allowed", "accepted", "可以", "能退", "接受")
MAY_NOT = (
    "no", "you may not", "you can not", "cannot be", "can't be", "can not be", "not be returned", "cannot return",
    "can't return",
    "not allowed", "not accepted", "must be unopened", "only unopened", "must be sealed", "不可以", "不能退", "不行", "不接受",
    "必须未拆封",
)  # fmt: skip


def policy(b: Builder, query: str, title: str, task: str) -> tuple[Expert, Row]:
    """The qa agent reads a policy: (the expert, the policy's body)."""
    expert = b.delegate("qa", task, "A question about the policies; the qa agent knows.")
    document = find(expert, query, title)
    if document["excerpt"].endswith(" ..."):
        return expert, expert.call("read_document", "The excerpt is cut; I read it all.", document_id=document["document_id"])
    return expert, {"body": document["excerpt"]}


def _rule(product: Row) -> rules.ReturnRule:
    return rules.return_rule(product["brand"], product["category"])


def _about_department(
    b: Builder, ask: Phrases, task: str, *, opened: bool | None = None, more: Phrases | None = None
) -> tuple[Row, str, Expert]:
    """A policy question about the department of a product that the customer mentions; `opened`: where opened items may come
    back, or not; `more`: what else is asked."""
    product = b.rng.choice([row for row in b.pools.products if (rule := _rule(row)).days and opened in (None, rule.opened)])
    name = department(product)
    said = b.phrase(MENTIONED, name=product_name(product))
    also = () if more is None else (b.phrase(more),)
    b.ask(("" if b.zh else " ").join((said, b.phrase(ask, category=name), *also)))
    expert, _ = policy(b, f"return period {name}", f"Return period: {name}", task.format(category=name))
    return product, name, expert


@family("qa", 1)
def return_period(b: Builder) -> None:
    """Days in which a department's items can be returned."""
    product, name, expert = _about_department(b, RETURN_DAYS, "How many days are there to return {category} items?")
    days = rules.return_days(product["brand"], product["category"], "standard")
    expert.answer(f"{name} items can be returned within {days} days of delivery.")
    b.expect_number(str(days), "day", "0")
    b.finish(f"You can return {name} items within {days} days of delivery.", f"{name} 类商品可以在收货后 {days} 天内退货。")


@family("qa", 2)
def gold_return_period(b: Builder) -> None:
    """The same for gold members, who have more."""
    product, name, expert = _about_department(b, GOLD_DAYS, "How many days do gold members have to return {category} items?")
    days = rules.return_days(product["brand"], product["category"], "gold")
    expert.answer(f"Gold members can return {name} items within {days} days of delivery.")
    b.expect_number(str(days), "day", "0")
    b.finish(f"As a gold member you have {days} days to return {name} items.", f"金卡会员退 {name} 类商品有 {days} 天。")


@family("qa", 1)
def opened_return(b: Builder) -> None:
    """Whether an opened item of a department may come back, and within how many days."""
    allowed = b.rng.random() < 0.5
    task = "May {category} items be returned after they were opened? And within how many days can they be returned?"
    product, name, expert = _about_department(b, OPENED, task, opened=allowed, more=WITHIN)
    days = rules.return_days(product["brand"], product["category"], "standard")
    rule = "may be opened" if allowed else "must be unopened"
    expert.answer(f"{'Yes' if allowed else 'No'}, {name} items {rule}; the return period is {days} days.")
    b.expect_text(*(MAY if allowed else MAY_NOT), reject=MAY_NOT if allowed else MAY)
    b.expect_number(str(days), "day", "0")
    b.finish(
        f"{'Yes' if allowed else 'No'}, {name} items {rule} for a return; the return period is {days} days.",
        f"{'可以' if allowed else '不行'}，{name} 类退货时{'可以已拆封' if allowed else '必须未拆封'}，退货期为 {days} 天。",
    )


@family("qa", 2)
def longer_return(b: Builder) -> None:
    """Which of two products' departments may be returned for longer."""
    # The one with more is drawn first, so that any may be it, not only those with most of all.
    one = b.rng.choice(b.pools.products)
    less_days = [row for row in b.pools.products if 0 < _rule(row).days < _rule(one).days]
    if not less_days:
        raise Skip("none has less")
    one, two = b.rng.sample((one, b.rng.choice(less_days)), 2)
    x, y = department(one), department(two)
    days = {x: _rule(one).days, y: _rule(two).days}
    asked = b.phrase(LONGER_RETURN, a=f"{product_name(one)} ({x})", b=f"{product_name(two)} ({y})")
    b.ask(("" if b.zh else " ").join((asked, b.phrase(VALUE))))
    task = f"Which has the longer return period, {x} or {y} items, and how many days is it?"
    expert = b.delegate("qa", task, "A question about policies.")
    for name in (x, y):
        find(expert, f"return period {name}", f"Return period: {name}")
    more = max(days, key=days.__getitem__)
    expert.answer(f"{x} has {days[x]} days and {y} has {days[y]} days, so {more}.", f"{max(days.values())} is more.")
    (name, other), less = (map(product_name, (one, two) if more == x else (two, one))), (y if more == x else x)
    b.expect_text(more, name, reject=(less, other))
    b.expect_number(str(days[more]), "day", "0")
    b.finish(f"You have longer for {more}: {days[more]} days.", f"退货期更长的是 {more}：{days[more]} 天。")


@family("qa", 2)
def fact_and_period(b: Builder) -> None:
    """What a product weighs, and how long it can be returned."""
    name, row = fact(b, knowledge_question("weight"))
    product = b.pools.world.products[row["product_id"]].row
    days, where = _rule(product).days, department(product)
    if not days:
        raise Skip("never returned")
    b.ask(("" if b.zh else " ").join((b.phrase(WEIGHT, name=name), b.phrase(RETURN_DAYS, category=where))))
    task = f"How heavy is the {name}? And how many days are there to return {where} items?"
    expert = b.delegate("qa", task, "A question about a product and one about the policies; the qa agent knows both.")
    grams = knowledge_value(expert, "weight", name, row)
    find(expert, f"return period {where}", f"Return period: {where}")
    expert.answer(f"{row['answer']} {where} items can be returned within {days} days of delivery.")
    b.expect_number(str(grams), "g", "0")
    b.expect_number(str(days), "day", "0")
    b.finish(
        f"The {name} weighs {grams} grams, packed; {where} items can be returned within {days} days.",
        f"{name} 连包装重 {grams} 克；{where} 类商品可以在 {days} 天内退货。",
    )
