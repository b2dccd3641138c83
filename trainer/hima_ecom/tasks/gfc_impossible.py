"""GFC, impossible: the right answer is a refusal with its reason."""

from trainer.hima_ecom.tasks import wording as w
from trainer.hima_ecom.tasks.builder import Builder, Skip
from trainer.hima_ecom.tasks.gfc_notes import a_figure, a_reminder
from trainer.hima_ecom.tasks.pools import held_out
from trainer.hima_ecom.tasks.template import Facts, Refusal, Template, refused, templates
from trainer.hima_ecom.tasks.texts import table, translations, word_list
from trainer.hima_ecom.tools.conversion import CURRENCIES


def _an_unknown_currency(b: Builder) -> Facts:
    unknown = table("gfc_impossible/currencies")
    source, target = b.rng.choice(tuple(CURRENCIES)), b.rng.choice(tuple(unknown))
    if held_out(f"{source}/{target}") != b.pools.test:
        raise Skip("a pair of the other split")
    amount = b.rng.choice((b.rng.randint(5, 3000), b.rng.randint(500, 90000) / 100))
    said = {"target": b.rng.choice((target, w.pick(b, unknown[target]))), "source": w.say_money(b, source)}
    words = (target, *unknown[target])
    return said | {"number": amount, "amount": w.amount(amount), "from": source, "to": target, "words": words}


def _an_unknown_city(b: Builder) -> Facts:
    unknown = translations("gfc_impossible/cities")
    source, target = w.some_city(b), b.rng.choice(tuple(unknown))
    if held_out(f"{source}/{target}") != b.pools.test:
        raise Skip("a pair of the other split")
    clock, words = w.some_time(b), (target, unknown[target])
    said = {"target": w.pick(b, words), "time": w.say_time(b, clock), "source": w.say_city(b, source)}
    return said | {"clock": clock, "from": source, "to": target, "words": words}


templates(
    "gfc",
    "gfc_impossible",
    Template(
        "weather_too_far", 1, "The weather on a day that the table does not reach.", a_figure(18, 330, split=False),
        refused("get_weather", city="{place}", date="{day!s}"),
        Refusal("{words}"),
        read=lambda facts: {"words": word_list("reasons/too_far")},
        ask=("gfc_notes/weather_on",),
        impossible=True,
    ),
    Template(
        "reminder_in_past", 1, "A reminder for a day that is over.", a_reminder(-300, -2),
        refused("set_reminder", text="{note}", date="{day!s}", time="{clock}"),
        Refusal("{words}"),
        read=lambda facts: {"words": word_list("reasons/in_past")},
        ask=("gfc_notes/reminder",),
        impossible=True,
    ),
    Template(
        "unknown_currency", 1, "A currency without a rate.", _an_unknown_currency,
        refused("convert_currency", amount="{number}", source="{from}", target="{to}"),
        Refusal("{words}"),
        ask=("gfc/currency_conversion",),
        impossible=True,
    ),
    Template(
        "unknown_city", 1, "The time in a city that is not in the table.", _an_unknown_city,
        refused("convert_time", time="{clock}", source="{from}", target="{to}"),
        Refusal("{words}"),
        ask=("gfc/city_time",),
        impossible=True,
    ),
)  # fmt: skip
