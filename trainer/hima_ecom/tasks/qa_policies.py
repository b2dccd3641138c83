"""QA about the store's policies: return periods by department (a brand's items of a category) and tier."""

from trainer.hima_ecom import rules
from trainer.hima_ecom.base import Row
from trainer.hima_ecom.tasks.builder import Builder, Expert, Skip
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.pools import department
from trainer.hima_ecom.tasks.qa_products import fact, find, look_up, product_name
from trainer.hima_ecom.tasks.texts import word_list


def policy(b: Builder, query: str, title: str, task: str) -> tuple[Expert, Row]:
    """Let the qa agent read a policy; return (the expert, the policy's body)."""
    expert = b.delegate("qa", task, "A question about the policies; the qa agent knows.")
    document = find(expert, query, title)
    if document["excerpt"].endswith(" ..."):
        return expert, expert.call("read_document", "The excerpt is cut; I read it all.", document_id=document["document_id"])
    return expert, {"body": document["excerpt"]}


def _rule(product: Row) -> rules.ReturnRule:
    return rules.return_rule(product["brand"], product["category"])


def _about_department(
    b: Builder, ask: str, task: str, *, opened: bool | None = None, more: str | None = None
) -> tuple[Row, str, Expert]:
    """Write a policy question about the department of a product that the customer mentions.

    Args:
        opened: True draws a department where opened items may be returned, False one where they may not.
        more: phrases of a second question.
    """
    product = b.rng.choice([row for row in b.pools.products if (rule := _rule(row)).days and opened in (None, rule.opened)])
    name = department(product)
    said = b.phrase("qa_policies/mentioned", name=product_name(product))
    also = () if more is None else (b.phrase(more),)
    b.ask(b.join(said, b.phrase(ask, category=name), *also))
    expert, _ = policy(b, f"return period {name}", f"Return period: {name}", task.format(category=name))
    return product, name, expert


@family("qa", 1, "Days in which a department's items can be returned.")
def return_period(b: Builder) -> None:
    product, name, expert = _about_department(
        b, "qa_policies/return_period", "How many days are there to return {category} items?"
    )
    days = rules.return_days(product["brand"], product["category"], "standard")
    expert.answer(f"{name} items can be returned within {days} days of delivery.")
    b.expect_number(str(days), "day", "0")
    b.finish(f"You can return {name} items within {days} days of delivery.", f"{name} 类商品可以在收货后 {days} 天内退货。")


@family("qa", 2, "The same for gold members, who have more.")
def gold_return_period(b: Builder) -> None:
    product, name, expert = _about_department(
        b, "qa_policies/gold_return_period", "How many days do gold members have to return {category} items?"
    )
    days = rules.return_days(product["brand"], product["category"], "gold")
    expert.answer(f"Gold members can return {name} items within {days} days of delivery.")
    b.expect_number(str(days), "day", "0")
    b.finish(f"As a gold member you have {days} days to return {name} items.", f"金卡会员退 {name} 类商品有 {days} 天。")


@family("qa", 1, "Whether an opened item of a department may come back, and within how many days.")
def opened_return(b: Builder) -> None:
    allowed = b.rng.random() < 0.5
    task = "May {category} items be returned after they were opened? And within how many days can they be returned?"
    product, name, expert = _about_department(b, "qa_policies/opened_return", task, opened=allowed, more="qa_policies/within")
    days = rules.return_days(product["brand"], product["category"], "standard")
    may, may_not = word_list("qa_policies/may"), word_list("qa_policies/may_not")
    rule = "may be opened" if allowed else "must be unopened"
    expert.answer(f"{'Yes' if allowed else 'No'}, {name} items {rule}; the return period is {days} days.")
    b.expect_text(*(may if allowed else may_not), reject=may_not if allowed else may)
    b.expect_number(str(days), "day", "0")
    b.finish(
        f"{'Yes' if allowed else 'No'}, {name} items {rule} for a return; the return period is {days} days.",
        f"{'可以' if allowed else '不行'}，{name} 类退货时{'可以已拆封' if allowed else '必须未拆封'}，退货期为 {days} 天。",
    )


@family("qa", 2, "Which of two products' departments may be returned for longer.")
def longer_return(b: Builder) -> None:
    # The department with more days is drawn first: drawn second, it would mostly be one of those with the most.
    one = b.rng.choice(b.pools.products)
    less_days = [row for row in b.pools.products if 0 < _rule(row).days < _rule(one).days]
    if not less_days:
        raise Skip("none has less")
    one, two = b.rng.sample((one, b.rng.choice(less_days)), 2)
    x, y = department(one), department(two)
    days = {x: _rule(one).days, y: _rule(two).days}
    asked = b.phrase("qa_policies/longer_return", a=f"{product_name(one)} ({x})", b=f"{product_name(two)} ({y})")
    b.ask(b.join(asked, b.phrase("qa_products/value")))
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


@family("qa", 2, "What a product weighs, and how long it can be returned.")
def fact_and_period(b: Builder) -> None:
    name, row = fact(b, "weight")
    product = b.pools.world.products[row["product_id"]].row
    days, where = _rule(product).days, department(product)
    if not days:
        raise Skip("never returned")
    b.ask(b.join(b.phrase("qa_products/weight", name=name), b.phrase("qa_policies/return_period", category=where)))
    task = f"How heavy is the {name}? And how many days are there to return {where} items?"
    expert = b.delegate("qa", task, "A question about a product and one about the policies; the qa agent knows both.")
    grams = look_up(expert, "weight", name, row)
    find(expert, f"return period {where}", f"Return period: {where}")
    expert.answer(f"{row['answer']} {where} items can be returned within {days} days of delivery.")
    b.expect_number(grams, "g", "0")
    b.expect_number(str(days), "day", "0")
    b.finish(
        f"The {name} weighs {grams} grams, packed; {where} items can be returned within {days} days.",
        f"{name} 连包装重 {grams} 克；{where} 类商品可以在 {days} 天内退货。",
    )
