"""A rule baseline: a router by keywords, one tool filled by patterns, an answer that reads its result.

It reads a task once: each sentence goes to the agent that has most keywords in it, with what was found before; each agent calls
the one tool whose description is closest among those that it can fill; the answer is the value whose name is closest.
The rules are of words and of the tools' schemas, not of the benchmark's templates.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trainer.agents import Agent
from trainer.policies.base import observations_of, query_of
from trainer.policies.slots import QUOTED, fill, plain, stems
from trainer.react import Action, Answer, render
from trainer.types import Request

_ROUTES = {
    "qa": r"polic|warrant|cover|heav|weigh|\bmade\b|manufactur|countr|origin|clean|\bcare\b|\bwash|\bgold\b|may i|period"
    r"|window|\bopened|days .{0,20}return|sen[dt] back|保修|政策|产地|清洗|多重|金卡|退货|哪个国家",
    "efc": r"\b[OP]\d{4,}\b|(?<!alphabetical )\border(?:s|ed)?\b|parcel|package|coupon|promotion|cheap|stock|rating|review"
    r"|price|\bcost|track|cancel|订单|包裹|优惠|评价|库存|便宜|标价|促销",
    "gfc": r"convert|remind|weather|\brain|temperature|o'clock|weekday|day of the week|\bdays? (?:after|before|from|is)"
    r"|\buntil\b|\d{4}-\d\d-\d\d|\d\d:\d\d|\bweeks?\b|\bin \d+ days|\bcase\b|revers|alphabet|characters|how many words"
    r"|\bminutes?\b|kilomet|\bkg\b|\b(?:EUR|GBP|JPY|CNY|CAD|AUD|INR|BRL|CHF)\b|\bmiles?\b"
    r"|换算|兑换|提醒|天气|气温|几点|星期|大写|小写|倒",
    "math": r"calculat|comput|%|per ?cent|average|\bmean\b|median|\bsum\b|solve|equation|divide|split|multipl|\btimes\b"
    r"|together|\d [-+*/] \d|计算|方程|平均|总和|平摊|倍",
}
_HINTS = {
    "search_products": "cheapest find product catalogue price stock rating 便 宜 库 存",
    "get_order": "total cost paid address item price quantity street 总 金 额",
    "track_shipment": "parcel carrier company delivered arrive deliver tracking 包 裹",
    "list_orders": "latest last recent orders 最 近",
    "check_coupon": "coupon code",
    "cancel_order": "cancel 取 消",
    "return_items": "return send back 退",
    "exchange_item": "exchange swap 换",
    "get_weather": "weather temperature rain 天 气",
    "date_add": "after before date",
    "days_between": "between until apart count",
    "sort_lines": "sort alphabet order",
    "count_words": "characters words many",
    "weekday": "weekday day week 星 期",
    "set_reminder": "remind reminder 提 醒",
    "convert_unit": "convert unit 换 算",
    "convert_currency": "convert currency money",
    "statistics": "average mean median sum variance range 平 均",
}
_SAME = {
    "total": "cost price pay much amount",
    "price": "cost much",
    "promotion_price": "now today",
    "delivered_on": "deliver arriv came when",
    "shipped_on": "when shipp",
    "placed_on": "when",
    "carrier": "company",
    "street": "address go sent",
    "quantity": "number piece count",
    "count": "many number",
    "refund": "back",
    "condition": "weather",
    "rain_percent": "rain umbrella",
    "high_celsius": "warm hot temperature",
}
_VAGUE = ("query", "sort_by", "limit", "in_stock", "lines", "text")  # arguments that any text fills
_UNITS = ("unit", "currency")
_DESCRIBED = stems("find get list search show look the identified customer's")


class KeywordPolicy:
    """Plays `agents` by keywords; also a single agent with all tools, or one over another environment."""

    def __init__(self, agents: Mapping[str, Agent]) -> None:
        self._agents = agents

    def act(self, requests: Sequence[Request]) -> list[str]:
        """The next step of each."""
        return [render(self._step(request)) for request in requests]

    def _step(self, request: Request) -> Action | Answer:
        agent, query, seen = self._agents[request.agent], plain(query_of(request)).strip(), observations_of(request)
        if agent.subagents:
            plan = [(name, task) for name, task in _plan(query) if name in agent.subagents]
            if len(seen) < len(plan):
                name, task = plan[len(seen)]
                return Action(name, {"task": f"{task} Known: {' '.join(seen)}" if seen else task})
            return Answer(" ".join(seen).strip() or "I do not know.")
        identify, call = _identify(agent, query), _call(agent, query)
        steps = [step for step in (identify, call) if step is not None]
        if len(seen) < len(steps):
            return steps[len(seen)]
        return Answer(_read(query, seen[-1]).strip() if seen else "Sorry, I cannot tell; I need more information.")


def _plan(query: str) -> list[tuple[str, str]]:
    """(agent, its sentences and those that are nobody's), in the order in which they come."""
    tasks: dict[str, list[str]] = {}
    common = []
    for sentence in re.split(r"(?<=[.?!;])\s+|(?<=[。？！；])", query):
        unquoted = QUOTED.sub("", sentence)
        hits = {name: len(re.findall(words, unquoted, re.IGNORECASE)) for name, words in _ROUTES.items()}
        best = max(hits, key=hits.__getitem__)
        if hits[best]:
            tasks.setdefault(best, []).append(sentence)
        else:
            common.append(sentence)
    return [(name, " ".join([*common, *own])) for name, own in tasks.items()] or [("qa", query)]


def _functions(agent: Agent) -> Iterator[dict[str, Any]]:
    return (tool["function"] for tool in agent.tools)


def _identify(agent: Agent, query: str) -> Action | None:
    """Who the customer is, where the text has an e-mail address and a tool takes one."""
    for function in _functions(agent):
        properties = function["parameters"].get("properties", {})
        if "email" in properties and (arguments := fill(function, query)) and "email" in arguments:
            return Action(function["name"], {"email": arguments["email"]})
    return None


def _call(agent: Agent, query: str) -> Action | None:
    """The tool whose name, description and hints share most words with the text, of those whose arguments are there."""
    asked = stems(query)
    best: float = -1.0
    action = None
    for function in _functions(agent):
        arguments = fill(function, query)
        if arguments is None or "email" in arguments:
            continue
        name = function["name"]
        described = stems(f"{name} {function.get('description', '')}") - _DESCRIBED
        score: float = len(asked & described) + 2 * len(asked & stems(_HINTS.get(name, "")))
        score += sum(2.0 if argument.endswith(("id", "ids")) else 0.5 for argument in arguments if argument not in _VAGUE)
        score -= 2.0 * (not arguments)
        if score > best:
            best, action = score, Action(name, arguments)
    return action


def _read(query: str, observation: str) -> str:
    """What a result says to the question."""
    try:
        result = json.loads(observation)
    except ValueError:
        return observation.strip() or "Nothing was found."
    if isinstance(result, dict) and "error" in result:
        return f"Sorry, this cannot be done: {result['error']}."
    asked = stems(query)
    best, text = -1.0, "Nothing was found."
    for path, value, around in _leaves(result, "", {}):
        key = path.rpartition(" ")[2]
        if key.endswith("id") or key in _UNITS:
            continue
        beside = " ".join(
            str(other) for name, other in around.items() if isinstance(other, str) and not name.endswith("id") and name != key
        )
        score = (
            1.5 * len(asked & stems(f"{path} {_SAME.get(key, '')}")) + 0.6 * len(asked & stems(beside)) - 0.1 * path.count(" ")
        )
        if key == "excerpt":
            score += len(asked & stems(str(value)))
        if score > best:
            unit = next((f" {around[name]}" for name in _UNITS if name in around), "")
            whose = next((str(other) for name, other in around.items() if name.endswith("_id")), "")
            unit += f" ({whose})" if whose and whose not in query else ""
            best, text = score, f"{value}{unit}" if key == "excerpt" else f"{key.replace('_', ' ')}: {value}{unit}"
    return text


def _leaves(value: Any, path: str, around: dict[str, Any]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """(path of names, value, the object around it) of every plain value."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path} {name}", value)
    elif isinstance(value, list):
        if value and all(isinstance(inner, str) for inner in value):
            yield path, ", ".join(value), around
            return
        for inner in value:
            yield from _leaves(inner, path, around)
    elif value not in (None, ""):
        yield path, value, around
