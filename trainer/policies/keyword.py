"""A rule baseline: a router by keywords, one tool filled by patterns, an answer that reads its result.

It reads a task once: each agent whose keywords occur gets the whole task, in the order in which they occur; each calls the one
tool whose description is closest among those that it can fill; the answer is the value whose name is closest to the question.
The rules are of words and of the tools' schemas, not of the benchmark's templates.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trainer.agents import Agent
from trainer.policies.base import observations_of, query_of
from trainer.policies.slots import fill, stems
from trainer.react import Action, Answer, render
from trainer.types import Request

_ROUTES = {
    "qa": r"polic|warrant|how heavy|weigh|\bmade\b|origin|clean|\bcare\b|\bgold\b|may i|period|window|保修|政策|产地|清洗|多重",
    "efc": r"\b[OP]\d{4,}\b|\border(?:s|ed)?\b|parcel|package|coupon|promotion|cheap|stock|rating|review|price|\bcost"
    r"|track|订单|包裹|优惠|评价|库存|便宜|价",
    "gfc": r"convert|remind|weather|rain|temperature|o'clock|time zone|weekday|day of the week|how many days"
    r"|days? (?:after|before)|\bcase\b|revers|\bsort|how many words|\b(?:EUR|GBP|JPY|CNY|CAD|AUD|INR|BRL|CHF)\b"
    r"|\bmiles?\b|换算|提醒|天气|几点|星期|大写|小写|倒",
    "math": r"calculat|comput|%|per ?cent|average|\bmean\b|median|\bsum\b|solve|equation|divide|split|multipl|\btimes\b"
    r"|square root|\d [-+*/] \d|计算|方程|平均|总和|平摊|倍",
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
        agent, query, seen = self._agents[request.agent], query_of(request), observations_of(request)
        if agent.subagents:
            plan = [name for name in _route(query) if name in agent.subagents]
            if len(seen) < len(plan):
                found = f"\nKnown: {' '.join(seen)}" if seen else ""
                return Action(plan[len(seen)], {"task": query + found})
            return Answer(" ".join(seen).strip() or "I do not know.")
        identify, call = _identify(agent, query), _call(agent, query)
        steps = [step for step in (identify, call) if step is not None]
        if len(seen) < len(steps):
            return steps[len(seen)]
        return Answer(_read(query, seen[-1]).strip() if seen else "Sorry, I cannot tell; I need more information.")


def _route(query: str) -> list[str]:
    places = {name: match.start() for name, words in _ROUTES.items() if (match := re.search(words, query, re.IGNORECASE))}
    return sorted(places, key=places.__getitem__) or ["qa"]


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
    best, action = 0.5, None
    for function in _functions(agent):
        arguments = fill(function, query)
        if arguments is None or "email" in arguments:
            continue
        name = function["name"]
        described = stems(f"{name} {function.get('description', '')}") - _DESCRIBED
        score = len(asked & described) + 2 * len(asked & stems(_HINTS.get(name, ""))) + 0.5 * len(arguments)
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
        beside = " ".join(str(other) for name, other in around.items() if isinstance(other, str) and name != key)
        score = len(asked & stems(f"{path} {_SAME.get(key, '')}")) + 0.6 * len(asked & stems(beside)) - 0.1 * path.count(" ")
        if key == "excerpt":
            score += len(asked & stems(str(value)))
        if score > best:
            unit = next((f" {around[name]}" for name in _UNITS if name in around), "")
            best, text = score, f"{value}{unit}" if key == "excerpt" else f"{key.replace('_', ' ')}: {value}{unit}"
    return text


def _leaves(value: Any, path: str, around: dict[str, Any]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """(path of names, value, the object around it) of every plain value."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path} {name}", value)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, path, around)
    elif value not in (None, ""):
        yield path, value, around
