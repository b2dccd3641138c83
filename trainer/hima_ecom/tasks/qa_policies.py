"""QA about the store's policies: return periods by department (a brand's items of a category) and tier."""

from trainer.hima_ecom import rules
from trainer.hima_ecom.base import Row
from trainer.hima_ecom.tasks.builder import Builder, Expert, Skip
from trainer.hima_ecom.tasks.families import family
from trainer.hima_ecom.tasks.pools import department
from trainer.hima_ecom.tasks.qa_products import document, fact, find, product_name, search, value
from trainer.hima_ecom.tasks.template import Call, Facts, Number, Template, Text, call, templates
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


def _read(name: str, into: str) -> Call:
    """Search for the policy of the department that is the fact `name`."""

    def then(facts: Facts) -> Facts:
        document(facts[into], f"return period {facts[name]}", f"Return period: {facts[name]}")
        return {}

    return call("search_knowledge", into=into, then=then, query=f"return period {{{name}}}")


def _two_departments(b: Builder) -> Facts:
    # The department with more days is drawn first: drawn second, it would mostly be one of those with the most.
    one = b.rng.choice(b.pools.products)
    less_days = [row for row in b.pools.products if 0 < _rule(row).days < _rule(one).days]
    if not less_days:
        raise Skip("none has less")
    one, two = b.rng.sample((one, b.rng.choice(less_days)), 2)
    x, y = department(one), department(two)
    said = {"x": x, "y": y, "a": f"{product_name(one)} ({x})", "b": f"{product_name(two)} ({y})"}
    more, less = (one, two) if _rule(one).days > _rule(two).days else (two, one)
    names = {"more": department(more), "name": product_name(more), "others": (department(less), product_name(less))}
    return said | names | {"days": {"x": _rule(one).days, "y": _rule(two).days}, "most": _rule(more).days}


def _a_weight_and_a_department(b: Builder) -> Facts:
    name, row = fact(b, "weight")
    product = b.pools.world.products[row["product_id"]].row
    if not _rule(product).days:
        raise Skip("never returned")
    return {"name": name, "row": row, "category": department(product), "days": _rule(product).days}


templates(
    "qa",
    "qa_policies",
    Template(
        "longer_return", 2, "Which of two products' departments may be returned for longer.", _two_departments,
        (_read("x", "one"), _read("y", "two")),
        (Text("{more}", accept="{name}", reject="{others}"), Number("{most}", "day", "0")),
        ask=("qa_policies/longer_return", "qa_products/value"),
    ),
    Template(
        "fact_and_period", 2, "What a product weighs, and how long it can be returned.", _a_weight_and_a_department,
        (search("weight"), _read("category", "policy")),
        (Number("{value}", "g", "0"), Number("{days}", "day", "0")),
        read=lambda facts: {"value": value("weight", facts["seen"], facts["name"], facts["row"])},
        ask=("qa_products/weight", "qa_policies/return_period"),
    ),
)  # fmt: skip
