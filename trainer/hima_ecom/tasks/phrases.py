"""Ways to say the same thing: by split and language, so that test queries are worded as no other query is."""

import random
from datetime import date
from typing import NamedTuple


class Phrases(NamedTuple):
    """Templates with {facts}: those that experts demonstrate (split "sft"), those of test queries, which occur nowhere else, in
    both languages; and more that customers use and no expert has demonstrated: (query, answer) pairs (split "train") are worded
    in these, where there are any, else in the experts'."""

    sft: tuple[str, ...]
    test: tuple[str, ...]
    zh: tuple[str, ...]
    zh_test: tuple[str, ...]
    more: tuple[str, ...] = ()

    def draw(self, rng: random.Random, split: str, language: str) -> str:
        """One template."""
        if split == "test":
            return rng.choice(self.zh_test if language == "zh" else self.test)
        if language == "zh":
            return rng.choice(self.zh)
        return rng.choice((self.more or self.sft) if split == "train" else self.sft)


# Said around a query: nothing in it matters.
DISTRACTORS = Phrases(
    (
        "I am writing from my phone, so excuse typos.", "My neighbour recommended your shop.",
        "I have been a customer for years.",
        "It was meant as a present for my sister.", "I have a meeting soon, so please be quick.", "Your packaging is lovely.",
        "The weather here is dreadful today.", "I already asked a friend, who did not know.",
    ),
    (
        "My cat keeps walking over the keyboard.", "I hope this reaches the right team.", "We are moving house next month.",
        "Thanks for the newsletter, by the way.",
    ),
    ("我是你们的老顾客了。", "我在手机上打字，请见谅。", "这是送给妹妹的礼物。", "我马上要开会，请快一点。"),
    ("希望我找对了部门。", "下个月我们要搬家。"),
)  # fmt: skip
EMAIL = Phrases(
    ("My e-mail address is {email}.", "You will find me under {email}.", "I am registered as {email}."),
    ("The account belongs to {email}.", "Please use the account of {email}."),
    ("我的邮箱是 {email}。", "我的注册邮箱为 {email}。"),
    ("请用账号 {email} 查询。",),
)
WORDS_ZH = {
    "pending": "待处理", "processing": "处理中", "shipped": "已发货", "delivered": "已送达", "cancelled": "已取消",
    "in transit": "运输中", "sunny": "晴", "partly cloudy": "局部多云", "cloudy": "多云", "rain": "雨", "thunderstorm": "雷暴",
    "windy": "大风", "Monday": "星期一", "Tuesday": "星期二", "Wednesday": "星期三", "Thursday": "星期四", "Friday": "星期五",
    "Saturday": "星期六", "Sunday": "星期日", "yes": "是", "no": "否",
}  # fmt: skip


def dates(day: str) -> tuple[str, ...]:
    """Other ways to write an ISO date."""
    on = date.fromisoformat(day)
    month = on.strftime("%B")
    return (
        f"{month} {on.day}, {on.year}", f"{on.day} {month} {on.year}", f"{month[:3]} {on.day}, {on.year}",
        f"{on.year}年{on.month}月{on.day}日",
    )  # fmt: skip
