"""What is said of a chain's later parts: wordings of each step of `cooperation_steps`."""

from trainer.hima_ecom.tasks.phrases import Phrases

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
