"""How a chain of cooperating agents goes on: each step takes the value that the one before it found."""

import re
from datetime import date, timedelta

from trainer.hima_ecom import rules
from trainer.hima_ecom.tasks.builder import Builder, Expert, Skip
from trainer.hima_ecom.tasks.cooperation_sources import Value
from trainer.hima_ecom.tasks.phrases import WORDS_ZH, Phrases, dates
from trainer.hima_ecom.tasks.pools import department, held_out
from trainer.hima_ecom.tasks.qa_products import find
from trainer.hima_ecom.tasks.wording import rounded
from trainer.hima_ecom.tools.conversion import CURRENCIES

CURRENCY = Phrases(
    ("Then convert it to {currency}.", "How much is that in {currency}?", "Give me this in {currency}, too.",
     "I also need it in {currency}."),
    ("Expressed in {currency}, that makes?", "Change that into {currency}."),
    ("再换算成 {currency}。", "那是多少 {currency}？"),
    ("折合 {currency} 是多少？",),
    (
        "Change it into {currency}.", "What does that make in {currency}?", "Expressed in {currency}, what is that?",
        "That makes how much in {currency}?",
    ),
)  # fmt: skip
SHARE = Phrases(
    (
        "Work out {rate} percent of that.", "What is {rate}% of it?",
        "I have to put aside {rate} percent of it: how much is that?",
        "Then calculate {rate}% of the amount.",
    ),
    ("My share is {rate} percent; what does it come to?", "{rate}% of the above, please."),
    ("再算一下它的 {rate}%。", "其中的 {rate}% 是多少？"),
    ("按 {rate}% 计算是多少？",),
    (
        "My share of that is {rate}%. How much is it?", "What do {rate} percent of the above come to?",
        "Please give me {rate} percent of the above.", "A share of {rate}% comes to what?",
    ),
)  # fmt: skip
PIECES = Phrases(
    ("What would {count} times that be?", "Multiply it by {count}.", "And {count} of the same?",
    "Then give me {count} times that."),
    ("If I did that {count} times over, what would it sum to?", "Scale it up by {count}."),
    ("乘以 {count} 是多少？", "{count} 倍是多少？"),
    ("再乘 {count} 呢？",),
    (
        "Scale that by {count}.", "What would {count} times over be?", "If I did it {count} times, what would I pay?",
        "Sum that up {count} times.",
    ),
)  # fmt: skip
SPLIT = Phrases(
    (
        "Split the result evenly between {count} people.", "We are {count} people: how much does each pay?",
        "Divide it by {count}, to the cent.", "What is that for each of {count} friends?",
    ),
    ("Shared by {count} of us, what is one part?", "One part of it if there are {count} equal ones?"),
    ("平均分给 {count} 个人，每人多少？", "{count} 个人平摊，每人付多少？"),
    ("分成 {count} 份，每份是多少？",),
    (
        "It is shared by {count} of us. One part is?", "What is one part of {count} equal ones?",
        "If {count} of us shared it, what is the part of one?", "There are {count} of us: an equal part?",
    ),
)  # fmt: skip
POUNDS = Phrases(
    ("Convert the weight to pounds.", "What is that in pounds?", "Give it to me in lb.", "I think in pounds; convert it."),
    ("And on an American scale, in pounds?", "State the pounds as well."),
    ("换算成磅是多少？", "那是多少磅？"),
    ("用磅表示是多少？",),
    (
        "State it in pounds.", "What does an American scale show, in pounds?", "In pounds as well, please.",
        "And how many pounds, on a scale?",
    ),
)  # fmt: skip
POSTAGE = Phrases(
    (
        "Posting costs {price} USD a kilogram: what do {count} of them cost to send?",
        "At {price} USD per kilogram, how much is it to mail {count}?",
        "I send {count} of them at {price} USD per kilogram. What do I pay?",
        "Work out the postage of {count} pieces at {price} USD a kilogram.",
    ),
    ("With a rate of {price} USD for each kilogram, what is the freight of {count} units?",
     "{count} units, {price} USD/kg: shipping charge?"),
    ("邮费每公斤 {price} USD，寄 {count} 件要多少钱？", "按每公斤 {price} USD，{count} 件的运费是多少？"),
    ("每公斤 {price} USD，{count} 件寄出去一共多少？",),
    (
        "What is the shipping charge of {count} units at {price} USD/kg?",
        "The rate is {price} USD for each kilogram. What is the freight for {count}?",
        "Freight for {count} units: {price} USD for a kilogram. What is it?",
        "At a rate of {price} USD/kg, {count} units: what shipping do I pay?",
    ),
)  # fmt: skip
UNTIL = Phrases(
    (
        "Something in it is from {category}. Until which day can that be returned?",
        "What is the last day to return items of the category {category} from it?",
        "When does the return period for {category} end, counted from that day?",
        "I want to return what I bought there from {category}: what is the latest date?",
    ),
    ("For {category}, what is the final day of the return window then?",
     "By which date must what it contains from {category} be back?"),
    ("其中的 {category} 商品最晚哪天可以退？", "按 {category} 的退货期限，最后一天是几号？"),
    ("{category} 类的退货截止日是哪天？",),
    (
        "What is the final day to return what it contains from {category}?",
        "It contains something from {category}. By which date must that be back?",
        "By which day does the return window of {category} end?", "Then, for {category}, the final date of the return?",
    ),
)  # fmt: skip
LATER = Phrases(
    ("Which date is {days} days after that?", "Add {days} days to it.", "What day is it {days} days later?",
     "Then count {days} days on."),
    ("Go {days} days forward from there: the date?", "{days} days on, which date do we have?"),
    ("再过 {days} 天是哪一天？", "加 {days} 天是几号？"),
    ("往后 {days} 天是什么日期？",),
    (
        "Go {days} days on from that.", "Which date do we have {days} days from there?",
        "And {days} days forward, what is the date?", "From there, {days} days on: which date?",
    ),
)  # fmt: skip
NAME = Phrases(
    ("Which day of the week is that?", "What weekday does that fall on?", "Tell me the weekday, too.",
     "Is that a Monday, or what day is it?"),
    ("And the name of that day?", "On which weekday would that be?"),
    ("那天是星期几？", "是星期几？"),
    ("请问那是周几？",),
    (
        "What is the name of that day?", "Which weekday would it be?", "On which day of the week would that be?",
        "And which weekday is that?",
    ),
)  # fmt: skip
REMIND = Phrases(
    (
        "Set a reminder '{text}' for that day.", "Remind me on that date: '{text}'.",
        "Put '{text}' into my reminders for then.",
        "I must not forget: reminder '{text}' on that day.",
    ),
    ("Make a note '{text}' that pops up on that very day.", "On said day I want to see '{text}' as a reminder."),
    ("请在那天设置提醒“{text}”。", "那天提醒我“{text}”。"),
    ("给那天加一个提醒：“{text}”。",),
    (
        "Make '{text}' pop up on that day.", "I want a note '{text}' on that very day.",
        "On that day I want to see a note: '{text}'.", "Let me see '{text}' as a reminder on said day.",
        "A reminder '{text}' that pops up then.",
    ),
)  # fmt: skip
REMIND_PAY = Phrases(
    (
        "Set a reminder for {day} with the text 'pay' and that amount, in the form 'pay 12.50 EUR'.",
        "On {day} remind me of the payment, worded like 'pay 12.50 EUR', but with this amount and currency.",
        "Put a reminder on {day} that says 'pay' and how much, written as in 'pay 12.50 EUR'.",
        "I have to pay that on {day}; set a reminder of the form 'pay 12.50 EUR' with the right amount.",
    ),
    ("Let a note come up on {day}: 'pay' followed by the sum and its code, as in 'pay 12.50 EUR'.",
     "Schedule 'pay' plus the figure as a reminder for {day}, in the style of 'pay 12.50 EUR'."),
    ("请在 {day} 设置提醒，写成“pay 12.50 EUR”的形式，换成这个金额。",
    "{day} 提醒我付款，内容按“pay 12.50 EUR”的格式写上金额和币种。"),
    ("给 {day} 加提醒，格式如“pay 12.50 EUR”，填上这个金额。",),
    (
        "Schedule a note for {day}: 'pay' and the figure, as in 'pay 12.50 EUR'.",
        "Let 'pay' plus the sum come up on {day} as a reminder, in the style of 'pay 12.50 EUR'.",
        "A note on {day} with 'pay' followed by the figure and its code, like 'pay 12.50 EUR'.",
        "In the style of 'pay 12.50 EUR', schedule a reminder on {day} with that sum.",
    ),
)  # fmt: skip
TEXTS = ("send the box back", "call the shop", "check the invoice", "write a review", "ask about the repair", "buy batteries")


def _calculate(b: Builder, task: str, expression: str) -> str:
    math = b.delegate("math", task, "Now a calculation; the math agent can do it.")
    result = rounded(str(math.call("calculate", "I calculate.", expression=expression)["result"]), 2)
    math.answer(f"It is {result}.")
    return result


def _money(b: Builder, text: str, unit: str) -> None:
    b.expect_number(text, unit)


def currency(b: Builder, value: Value) -> Value:
    """Dollars into another currency."""
    target = b.rng.choice([name for name in CURRENCIES if name != "USD"])
    gfc = b.delegate("gfc", f"Convert {value.text} USD to {target}.", "Now another currency; the gfc agent converts.")
    amount = gfc.call("convert_currency", "I convert it.", amount=float(value.text), source="USD", target=target)["amount"]
    gfc.answer(f"{value.text} USD are {amount} {target}.")
    _money(b, amount, target)
    b.part(b.phrase(CURRENCY, currency=target), f"That is {amount} {target}.", f"折合 {amount} {target}。")
    return Value(amount, target, "the amount")


def share(b: Builder, value: Value) -> Value:
    """A percentage of it."""
    rate = b.rng.randrange(3, 96)
    part = _calculate(b, f"What is {rate}% of {value.text}, rounded to 2 places?", f"round({value.text} * {rate}%, 2)")
    _money(b, part, value.unit)
    b.part(b.phrase(SHARE, rate=rate), f"{rate}% of it is {part} {value.unit}.", f"它的 {rate}% 是 {part} {value.unit}。")
    return Value(part, value.unit, f"{rate}% of it")


def pieces(b: Builder, value: Value) -> Value:
    """Several times it."""
    count = b.rng.randrange(3, 40)
    total = _calculate(b, f"Multiply {value.text} by {count}.", f"{value.text} * {count}")
    _money(b, total, value.unit)
    b.part(
        b.phrase(PIECES, count=count), f"{count} times that is {total} {value.unit}.", f"{count} 倍是 {total} {value.unit}。"
    )
    return Value(total, value.unit, f"{count} times it")


def split_bill(b: Builder, value: Value) -> Value:
    """Its even parts."""
    count = b.rng.randrange(3, 12)
    each = _calculate(b, f"Divide {value.text} by {count}, rounded to 2 places.", f"round({value.text} / {count}, 2)")
    _money(b, each, value.unit)
    b.part(b.phrase(SPLIT, count=count), f"Each of {count} pays {each} {value.unit}.", f"{count} 人每人 {each} {value.unit}。")
    return Value(each, value.unit, "each part")


def pounds(b: Builder, value: Value) -> Value:
    """Grams into pounds."""
    gfc = b.delegate("gfc", f"Convert {value.text} g to lb.", "Now another unit; the gfc agent converts.")
    result = str(gfc.call("convert_unit", "I convert it.", value=float(value.text), source="g", target="lb")["value"])
    gfc.answer(f"{value.text} g are {result} lb.")
    b.expect_number(result, "lb", "0.005")
    b.part(b.phrase(POUNDS), f"That is {result} lb.", f"合 {result} lb。")
    return Value(result, "lb", "the weight")


def postage(b: Builder, value: Value) -> Value:
    """What posting several of it costs."""
    count, price = b.rng.randrange(2, 20), f"{b.rng.randrange(100, 1500) / 100:.2f}"
    task = f"What do {count} pieces of {value.text} g cost at {price} per kilogram, rounded to 2 places?"
    cost = _calculate(b, task, f"round({count} * {value.text} / 1000 * {price}, 2)")
    _money(b, cost, "USD")
    b.part(b.phrase(POSTAGE, count=count, price=price), f"Posting {count} costs {cost} USD.", f"寄 {count} 件要 {cost} USD。")
    return Value(cost, "USD", "the postage")


def _add_days(b: Builder, day: str, days: int, thought: str) -> tuple[Expert, str]:
    gfc = b.delegate("gfc", f"Which date is {days} days after {day}?", thought)
    later = gfc.call("date_add", "I add the days.", date=day, days=days)["date"]
    gfc.answer(f"{days} days after {day} is {later}.")
    b.expect_text(later, *dates(later))
    return gfc, later


def return_until(b: Builder, value: Value) -> Value:
    """The last day to return something delivered that day."""
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
        b.phrase(UNTIL, category=category),
        f"What is from {category} can be returned until {last}.",
        f"{category} 类商品最晚 {last} 可以退。",
    )
    return Value(last, "", "the last day")


def _returnable(b: Builder, order_id: str) -> str:
    """A department of this split in an order, with a return period that is the same for its customer as for most."""
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
    """The date some days later."""
    days = b.rng.randrange(10, 400)
    _, later = _add_days(b, value.text, days, "Now the date; the gfc agent can count days.")
    b.part(b.phrase(LATER, days=days), f"{days} days later is {later}.", f"{days} 天后是 {later}。")
    return Value(later, "", "that day")


def day_name(b: Builder, value: Value) -> Value:
    """The weekday of the date."""
    gfc = b.delegate("gfc", f"Which weekday is {value.text}?", "Now the weekday; the gfc agent knows calendars.")
    name = gfc.call("weekday", "I look it up.", date=value.text)["weekday"]
    gfc.answer(f"{value.text} is a {name}.")
    others = tuple(day for day in WORDS_ZH if day.endswith("day") and day != name)
    b.expect_text(name, reject=others)
    b.part(b.phrase(NAME), f"That is a {name}.", f"那天是{WORDS_ZH[name]}。")
    return Value(name, "", "the weekday")


def _reminder(b: Builder, text: str, day: str) -> None:
    gfc = b.delegate("gfc", f"Set a reminder on {day}: {text}", "Now the reminder; the gfc agent sets it.")
    gfc.call("set_reminder", "I set it.", text=text, date=day)
    gfc.answer(f"The reminder is set for {day}.")


def remind(b: Builder, value: Value) -> Value:
    """A reminder on the date."""
    text = b.rng.choice(TEXTS)
    _reminder(b, text, value.text)
    b.part(b.phrase(REMIND, text=text), f"The reminder is set for {value.text}.", f"已在 {value.text} 设置提醒。")
    return Value(text, "", "the reminder")


def remind_amount(b: Builder, value: Value) -> Value:
    """A reminder to pay the amount on a day to come."""
    day = (date.fromisoformat(b.pools.world.today) + timedelta(days=b.rng.randrange(2, 300))).isoformat()
    _reminder(b, f"pay {value.text} {value.unit}", day)
    b.part(b.phrase(REMIND_PAY, day=day), f"The reminder is set for {day}.", f"已在 {day} 设置提醒。")
    return Value(value.text, value.unit, "the reminder")
