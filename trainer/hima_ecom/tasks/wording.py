"""How dates, times, units, money and cities are said in both languages, and what the general and Math tasks share."""

from collections.abc import Iterable
from datetime import date, timedelta
from fractions import Fraction

from trainer.hima_ecom.answers import says_any
from trainer.hima_ecom.calculator import round_half_up
from trainer.hima_ecom.checkers import UNCHANGED, Evidence, check
from trainer.hima_ecom.names import CITIES
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.phrases import Phrases, dates
from trainer.hima_ecom.tasks.pools import held_out
from trainer.hima_ecom.tools.calendar import WEEKDAYS

UNIT_WORDS = {
    "m": ("metres", "米"), "km": ("kilometres", "公里"), "cm": ("centimetres", "厘米"), "mm": ("millimetres", "毫米"),
    "mile": ("miles", "英里"), "yard": ("yards", "码"), "foot": ("feet", "英尺"), "inch": ("inches", "英寸"),
    "kg": ("kilograms", "公斤"), "g": ("grams", "克"), "mg": ("milligrams", "毫克"), "t": ("tonnes", "吨"),
    "lb": ("pounds", "磅"), "oz": ("ounces", "盎司"), "l": ("litres", "升"), "ml": ("millilitres", "毫升"),
    "us_gallon": ("US gallons", "美制加仑"), "us_cup": ("US cups", "美制杯"),
    "us_fluid_ounce": ("US fluid ounces", "美制液量盎司"), "m2": ("square metres", "平方米"),
    "cm2": ("square centimetres", "平方厘米"), "km2": ("square kilometres", "平方公里"), "hectare": ("hectares", "公顷"),
    "acre": ("acres", "英亩"), "square_foot": ("square feet", "平方英尺"), "m/s": ("metres per second", "米每秒"),
    "km/h": ("kilometres per hour", "公里每小时"), "mph": ("miles per hour", "英里每小时"), "knot": ("knots", "节"),
    "s": ("seconds", "秒"), "min": ("minutes", "分钟"), "h": ("hours", "小时"), "day": ("days", "天"), "week": ("weeks", "周"),
    "MB": ("megabytes", "兆字节"), "kB": ("kilobytes", "千字节"), "GB": ("gigabytes", "吉字节"), "TB": ("terabytes", "太字节"),
    "MiB": ("mebibytes (MiB)", "MiB"), "celsius": ("degrees Celsius", "摄氏度"),
    "fahrenheit": ("degrees Fahrenheit", "华氏度"), "kelvin": ("kelvin", "开尔文"),
}  # fmt: skip
MONEY_WORDS = {
    "USD": ("US dollars", "美元"), "EUR": ("euros", "欧元"), "GBP": ("British pounds", "英镑"),
    "JPY": ("Japanese yen", "日元"), "CNY": ("Chinese yuan", "人民币"), "CAD": ("Canadian dollars", "加元"),
    "AUD": ("Australian dollars", "澳元"), "INR": ("Indian rupees", "印度卢比"), "BRL": ("Brazilian reais", "巴西雷亚尔"),
    "CHF": ("Swiss francs", "瑞士法郎"),
}  # fmt: skip
CITIES_ZH = {
    "New York": "纽约", "Chicago": "芝加哥", "Denver": "丹佛", "Los Angeles": "洛杉矶", "Toronto": "多伦多",
    "Vancouver": "温哥华", "London": "伦敦", "Manchester": "曼彻斯特", "Berlin": "柏林", "Munich": "慕尼黑", "Paris": "巴黎",
    "Lyon": "里昂", "Tokyo": "东京", "Osaka": "大阪", "Shanghai": "上海", "Beijing": "北京", "Sydney": "悉尼",
    "Mumbai": "孟买", "Sao Paulo": "圣保罗", "Cairo": "开罗",
}  # fmt: skip
WEEKDAYS_ZH = dict(zip(WEEKDAYS, "一二三四五六日", strict=True))
ROUND = Phrases(
    (
        "Round to {places}.", "Give it with {places}.", "Please round the result to {places}.", "I would like {places}.",
        "An answer with {places} is enough.",
    ),
    ("Keep {places}, no more.", "It should be exact to {places}."),
    ("结果保留{places}。", "请四舍五入到{places}。", "小数点后留{places}就行。"),
    ("请精确到{places}。",),
    (
        "Keep {places}.", "Exact to {places}, please.", "No more than {places}.", "It should have {places}.",
    ),
)  # fmt: skip
# Sentences with a number that does not matter.
NOISE = Phrases(
    (
        "My parcel took {n} days last time, but that is another story.", "By the way, I am customer number {n} on your list.",
        "We live at house number {n}.", "There were {n} people in the queue before me.", "My phone is at {n} percent.",
        "I have waited {n} minutes for this chat.", "Our club has {n} members, who all say hello.",
    ),
    ("I scrolled past {n} other offers first.", "Page {n} of your catalogue made me smile.", "My train is {n} minutes late."),
    ("我已经等了{n}分钟。", "我们俱乐部有{n}个人。", "顺便说一句，我住在{n}号楼。"),
    ("我的火车晚点了{n}分钟。", "你们目录的第{n}页很有意思。"),
)  # fmt: skip


def pick(b: Builder, words: tuple[str, str]) -> str:
    """The word of the query's language."""
    return words[b.zh]


def ask(b: Builder, *sentences: str, noise: float = 0.0) -> None:
    """The query from whole sentences; with probability `noise` one of them holds a number that does not matter."""
    said = [*sentences]
    if b.rng.random() < noise:
        said.insert(b.rng.choice((0, len(said))), b.phrase(NOISE, n=b.rng.randint(11, 97)))
    b.ask(("" if b.zh else " ").join(said))


def finish(b: Builder, en: str, zh: str) -> None:
    """The final answer. Raises: Skip where the query already says a part of it."""
    for part in b.parts:
        said = Evidence(b.query, (), UNCHANGED, b.query, None, b.pools.world)
        told = part["kind"] == "number" and check(part, said) == 1.0
        if part["kind"] == "text":
            told = says_any(b.query, [part["value"], *part["accept"]]) and not says_any(b.query, part["reject"])
        if told:
            raise Skip("the query says the answer")
    b.finish(en, zh)


def held_pair(b: Builder, items: Iterable[str]) -> tuple[str, str]:
    """Two different items, in an order that the other split never sees."""
    items = list(items)
    pairs = [(x, y) for x in items for y in items if x != y and held_out(f"{x}/{y}") == b.pools.test]
    if not pairs:
        raise Skip("every pair belongs to the other split")
    return b.rng.choice(pairs)


def some_day(b: Builder, first: int = -150, last: int = 560) -> date:
    """A random day, counted from today."""
    return date.fromisoformat(b.session.store.today) + timedelta(days=b.rng.randint(first, last))


def say_date(b: Builder, day: date) -> str:
    """A date as a customer writes it."""
    american, european, _, chinese = dates(day.isoformat())
    return b.rng.choice((day.isoformat(), chinese) if b.zh else (day.isoformat(), american, european))


def expect_date(b: Builder, day: str) -> None:
    """The answer must name the day."""
    b.expect_text(day, *dates(day))


def expect_weekday(b: Builder, name: str) -> None:
    """The answer must name that day of the week and no other."""
    others = tuple(day for day in WEEKDAYS if day != name)
    accept = (f"周{WEEKDAYS_ZH[name]}", *(("星期天", "周天") if name == "Sunday" else ()))
    b.expect_text(name, *accept, reject=(*others, *(f"周{WEEKDAYS_ZH[day]}" for day in others)))


def clock12(time: str) -> str:
    """18:30 as 6:30 pm."""
    hour, minute = time.split(":")
    return f"{(int(hour) - 1) % 12 + 1}:{minute} {'am' if int(hour) < 12 else 'pm'}"


def some_time(b: Builder, step: int = 5) -> str:
    """A random time of day, HH:MM."""
    minutes = b.rng.randrange(0, 24 * 60, step)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def say_time(b: Builder, time: str) -> str:
    """A time as a customer writes it."""
    return time if b.zh else b.rng.choice((time, clock12(time)))


def expect_time(b: Builder, time: str) -> None:
    """The answer must name the time, by 24 or by 12 hours."""
    short = clock12(time)
    at, half = short.split()
    chinese = ("上午", "凌晨", "早上") if half == "am" else ("下午", "晚上", "中午")
    bare = (time.removeprefix("0"),) if int(time[:2]) < 12 else ()
    wrong = (f"{at} pm", f"{at} p.m.", f"下午{at}", f"晚上{at}") if half == "am" else ()
    b.expect_text(time, short, f"{at} {half[0]}.m.", *(word + at for word in chinese), *bare, reject=wrong)


def say_city(b: Builder, name: str) -> str:
    """A city in the query's language."""
    return CITIES_ZH[name] if b.zh else name


def some_city(b: Builder) -> str:
    """A random city."""
    return b.rng.choice(CITIES).name


def say_unit(b: Builder, unit: str) -> str:
    """A unit as a customer writes it: its name, or its symbol if it has one."""
    has_symbol = (len(unit) <= 3 and unit != "day") or "/" in unit
    return b.rng.choice((unit, pick(b, UNIT_WORDS[unit]))) if has_symbol else pick(b, UNIT_WORDS[unit])


def say_places(b: Builder, places: int) -> str:
    """A sentence that asks for so many decimals."""
    return b.phrase(ROUND, places=f"{places}位小数" if b.zh else f"{places} decimal{'s' if places > 1 else ''}")


def tolerance(places: int) -> str:
    """Half a unit of the last of so many decimals."""
    return f"0.{'0' * places}5"


def rounded(number: str, places: int) -> str:
    """A decimal text or fraction rounded half up, with exactly so many decimals."""
    value = round_half_up(Fraction(number), Fraction(places))
    units = abs(value) * 10**places
    digits = str(units.numerator).rjust(places + 1, "0")
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}" if places else str(value)


def amount(value: int | float) -> str:
    """An amount of money as it is written: cents where there are any."""
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def say_money(b: Builder, currency: str) -> str:
    """A currency as a customer writes it."""
    return b.rng.choice((currency, pick(b, MONEY_WORDS[currency])))
