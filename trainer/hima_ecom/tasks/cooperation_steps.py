"""Steps of cooperation chains: each takes the value that the part before it found."""

import re
from datetime import date, timedelta

from trainer.hima_ecom import rules
from trainer.hima_ecom.tasks.builder import Builder, Expert, Skip
from trainer.hima_ecom.tasks.cooperation_sources import Value
from trainer.hima_ecom.tasks.pools import department, held_out
from trainer.hima_ecom.tasks.qa_products import find
from trainer.hima_ecom.tasks.texts import translations, word_list
from trainer.hima_ecom.tasks.wording import chinese, dates, rounded
from trainer.hima_ecom.tools.conversion import CURRENCIES


def _calculate(b: Builder, task: str, expression: str) -> str:
    math = b.delegate("math", task, "Now a calculation; the math agent can do it.")
    result = rounded(str(math.call("calculate", "I calculate.", expression=expression)["result"]), 2)
    math.answer(f"It is {result}.")
    return result


def currency(b: Builder, value: Value) -> Value:
    """Convert dollars to another currency."""
    target = b.rng.choice([name for name in CURRENCIES if name != "USD"])
    gfc = b.delegate("gfc", f"Convert {value.text} USD to {target}.", "Now another currency; the gfc agent converts.")
    amount = gfc.call("convert_currency", "I convert it.", amount=float(value.text), source="USD", target=target)["amount"]
    gfc.answer(f"{value.text} USD are {amount} {target}.")
    b.expect_number(amount, target)
    b.part(b.phrase("cooperation/currency", currency=target), f"That is {amount} {target}.", f"折合 {amount} {target}。")
    return Value(amount, target, "the amount")


def share(b: Builder, value: Value) -> Value:
    """Take a percentage of the amount."""
    rate = b.rng.randrange(3, 96)
    part = _calculate(b, f"What is {rate}% of {value.text}, rounded to 2 places?", f"round({value.text} * {rate}%, 2)")
    b.expect_number(part, value.unit)
    b.part(
        b.phrase("cooperation/share", rate=rate),
        f"{rate}% of it is {part} {value.unit}.",
        f"它的 {rate}% 是 {part} {value.unit}。",
    )
    return Value(part, value.unit, f"{rate}% of it")


def pieces(b: Builder, value: Value) -> Value:
    """Multiply the amount."""
    count = b.rng.randrange(3, 40)
    total = _calculate(b, f"Multiply {value.text} by {count}.", f"{value.text} * {count}")
    b.expect_number(total, value.unit)
    b.part(
        b.phrase("cooperation/pieces", count=count),
        f"{count} times that is {total} {value.unit}.",
        f"{count} 倍是 {total} {value.unit}。",
    )
    return Value(total, value.unit, f"{count} times it")


def split_bill(b: Builder, value: Value) -> Value:
    """Divide the amount into equal parts."""
    count = b.rng.randrange(3, 12)
    each = _calculate(b, f"Divide {value.text} by {count}, rounded to 2 places.", f"round({value.text} / {count}, 2)")
    b.expect_number(each, value.unit)
    b.part(
        b.phrase("cooperation/split_bill", count=count),
        f"Each of {count} pays {each} {value.unit}.",
        f"{count} 人每人 {each} {value.unit}。",
    )
    return Value(each, value.unit, "each part")


def pounds(b: Builder, value: Value) -> Value:
    """Convert grams to pounds."""
    gfc = b.delegate("gfc", f"Convert {value.text} g to lb.", "Now another unit; the gfc agent converts.")
    result = str(gfc.call("convert_unit", "I convert it.", value=float(value.text), source="g", target="lb")["value"])
    gfc.answer(f"{value.text} g are {result} lb.")
    b.expect_number(result, "lb", "0.005")
    b.part(b.phrase("cooperation/pounds"), f"That is {result} lb.", f"合 {result} lb。")
    return Value(result, "lb", "the weight")


def postage(b: Builder, value: Value) -> Value:
    """Compute the postage of several parcels of the weight."""
    count, price = b.rng.randrange(2, 20), f"{b.rng.randrange(100, 1500) / 100:.2f}"
    task = f"What do {count} pieces of {value.text} g cost at {price} per kilogram, rounded to 2 places?"
    cost = _calculate(b, task, f"round({count} * {value.text} / 1000 * {price}, 2)")
    b.expect_number(cost, "USD")
    b.part(
        b.phrase("cooperation/postage", count=count, price=price),
        f"Posting {count} costs {cost} USD.",
        f"寄 {count} 件要 {cost} USD。",
    )
    return Value(cost, "USD", "the postage")


def _add_days(b: Builder, day: str, days: int, thought: str) -> tuple[Expert, str]:
    gfc = b.delegate("gfc", f"Which date is {days} days after {day}?", thought)
    later = gfc.call("date_add", "I add the days.", date=day, days=days)["date"]
    gfc.answer(f"{days} days after {day} is {later}.")
    b.expect_text(later, *dates(later))
    return gfc, later


def return_until(b: Builder, value: Value) -> Value:
    """Find the last day to return something that was delivered on the day."""
    category = _returnable(b, value.order_id)
    qa = b.delegate("qa", f"How many days are there to return {category} items?", "The qa agent knows the return period.")
    document = find(qa, f"return period {category}", f"Return period: {category}")
    match = re.search(r"within (\d+) days", document["excerpt"])
    if match is None:
        raise Skip("the excerpt is cut")
    days = int(match.group(1))
    qa.answer(f"{category} items can be returned within {days} days of delivery.")
    _, last = _add_days(b, value.text, days, "Now the date; the gfc agent can count days.")
    b.part(
        b.phrase("cooperation/return_until", category=category),
        f"What is from {category} can be returned until {last}.",
        f"{category} 类商品最晚 {last} 可以退。",
    )
    return Value(last, "", "the last day")


def _returnable(b: Builder, order_id: str) -> str:
    """Draw a department of this split among an order's items. Gold members, who have longer periods, are skipped."""
    order = b.pools.world.row("orders", order_id)
    assert order is not None
    customer = b.pools.world.row("customers", order["customer_id"])
    assert customer is not None
    items = b.peek(order["customer_id"], "get_order", order_id=order_id)["items"]
    rows = [b.pools.world.products[item["product_id"]].row for item in items]
    mine = [row for row in rows if held_out(department(row)) == b.pools.test]
    fitting = sorted({department(row) for row in mine if rules.return_rule(row["brand"], row["category"]).days})
    if customer["tier"] == "gold" or not fitting:
        raise Skip("a longer period, or none")
    return b.rng.choice(fitting)


def days_later(b: Builder, value: Value) -> Value:
    """Add days to the date."""
    days = b.rng.randrange(10, 400)
    _, later = _add_days(b, value.text, days, "Now the date; the gfc agent can count days.")
    b.part(b.phrase("cooperation/days_later", days=days), f"{days} days later is {later}.", f"{days} 天后是 {later}。")
    return Value(later, "", "that day")


def day_name(b: Builder, value: Value) -> Value:
    """Find the weekday of the date."""
    gfc = b.delegate("gfc", f"Which weekday is {value.text}?", "Now the weekday; the gfc agent knows calendars.")
    name = gfc.call("weekday", "I look it up.", date=value.text)["weekday"]
    gfc.answer(f"{value.text} is a {name}.")
    others = tuple(day for day in translations("common/words") if day.endswith("day") and day != name)
    b.expect_text(name, reject=others)
    b.part(b.phrase("cooperation/day_name"), f"That is a {name}.", f"那天是{chinese(name)}。")
    return Value(name, "", "the weekday")


def _reminder(b: Builder, text: str, day: str) -> None:
    gfc = b.delegate("gfc", f"Set a reminder on {day}: {text}", "Now the reminder; the gfc agent sets it.")
    gfc.call("set_reminder", "I set it.", text=text, date=day)
    gfc.answer(f"The reminder is set for {day}.")


def remind(b: Builder, value: Value) -> Value:
    """Set a reminder on the date."""
    text = b.rng.choice(word_list("cooperation/reminders"))
    _reminder(b, text, value.text)
    b.part(b.phrase("cooperation/remind", text=text), f"The reminder is set for {value.text}.", f"已在 {value.text} 设置提醒。")
    return Value(text, "", "the reminder")


def remind_amount(b: Builder, value: Value) -> Value:
    """Set a reminder to pay the amount on a later day."""
    day = (date.fromisoformat(b.pools.world.today) + timedelta(days=b.rng.randrange(2, 300))).isoformat()
    _reminder(b, f"pay {value.text} {value.unit}", day)
    b.part(b.phrase("cooperation/remind_amount", day=day), f"The reminder is set for {day}.", f"已在 {day} 设置提醒。")
    return Value(value.text, value.unit, "the reminder")
