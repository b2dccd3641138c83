"""Any JSON value as arguments of any tool: a JSON answer; refused calls leave the state as it was; the base is never changed.

The environment variable HIMA_FUZZ_EXAMPLES sets how many examples each tool gets.
"""

import copy
import json
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer.react import Action, Answer
from trainer.tau_retail import Retail, TauRetailEnv
from trainer.tau_retail.registry import FUNCTIONS
from trainer.tau_retail.world import World

EXAMPLES = int(os.environ.get("HIMA_FUZZ_EXAMPLES", "120"))
WORDS: tuple[str, ...] = (
    "#W1",
    "#W2",
    "#W3",
    "#W4",
    "ann",
    "bob",
    "Ann",
    "Lee",
    "78701",
    "11",
    "12",
    "13",
    "14",
    "15",
    "21",
    "P1",
    "P2",
    "",
)
WORDS += ("gift_card_1", "paypal_1", "paypal_2", "credit_card_1", "no longer needed", "bob@example.com", "9**9**9", "(1+2)/3")
TEXT = st.one_of(st.sampled_from(WORDS), st.text(st.characters(codec=None), max_size=30))  # with surrogates and NUL
SCALAR = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT, st.sampled_from((10**400, "x" * 10**5)))
ANY_JSON = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=8
)
SETTINGS = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
# An argument by its name, so that the functions behind the checks run: a call that fits is often done.
ORDER, METHOD = st.sampled_from(("#W1", "#W2", "#W3", "#W4")), st.sampled_from(("gift_card_1", "paypal_1", "credit_card_1"))
ITEMS = st.lists(st.sampled_from(("11", "12", "13", "15", "21")), min_size=1, max_size=3)
FITTING = {"order_id": ORDER, "payment_method_id": METHOD, "item_ids": ITEMS, "new_item_ids": ITEMS}
FITTING |= {"reason": st.just("no longer needed"), "user_id": st.sampled_from(("ann", "bob"))}


def arguments_of(name: str) -> st.SearchStrategy[Any]:
    keys = sorted(FUNCTIONS[name].arguments)
    fitting = st.fixed_dictionaries({key: FITTING.get(key, TEXT) for key in keys})
    return st.one_of(
        fitting, fitting, st.fixed_dictionaries({}, optional=dict.fromkeys([*keys, "unknown"], ANY_JSON)), ANY_JSON
    )


def worth(world: World) -> float:
    """What Ann has on her gift card and, net, in her orders: only the items' prices may move it."""
    user = world.row("users", "ann")
    assert user is not None
    total: float = user["payment_methods"]["gift_card_1"]["balance"]
    for order_id in user["orders"]:
        order = world.row("orders", order_id)
        assert order is not None
        for line in order["payment_history"]:
            if line["payment_method_id"] == "gift_card_1":
                total += line["amount"] if line["transaction_type"] == "payment" else -line["amount"]
    return round(total, 2)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_no_arguments_crash_a_tool(name: str, small: Retail) -> None:
    before = copy.deepcopy(small.base.tables)

    @SETTINGS
    @given(arguments_of(name))
    def check(arguments: Any) -> None:
        world, again = World(small.base), World(small.base)
        result = small.toolbox.call(world, name, arguments)
        result.observation.encode()
        answer = json.loads(result.observation)
        assert isinstance(answer, dict)
        assert result.refused == ("error" in answer)
        if result.refused:
            assert world.changes() == {}
        assert small.toolbox.call(again, name, arguments) == result
        assert again.state_hash() == world.state_hash()
        assert worth(world) == worth(World(small.base))

    check()
    assert small.base.tables == before


@SETTINGS
@given(name=ANY_JSON, arguments=ANY_JSON)
def test_no_name_crashes_an_episode(small: Retail, name: Any, arguments: Any) -> None:
    env = TauRetailEnv(small)
    env.reset(small.tasks["dev"][0])
    assert "unknown tool" in env.step(Action(name, arguments)).observation
    assert not env.step(Answer("")).info["state"]


@SETTINGS
@given(
    st.lists(st.sampled_from(sorted(FUNCTIONS)).flatmap(lambda name: st.tuples(st.just(name), arguments_of(name))), max_size=8)
)
def test_episodes_come_back_to_their_states(small: Retail, calls: list[tuple[str, Any]]) -> None:
    """After any calls: money is conserved, a restored state equals the one that was saved, and its calls repeat themselves."""
    world = World(small.base)
    seen = []
    for name, arguments in calls:
        state, digest = world.snapshot(), world.state_hash()
        result = small.toolbox.call(world, name, arguments)
        seen.append((state, digest, result, world.state_hash()))
        assert worth(world) == 123.05  # 60 on the card and 63.05 in order #W1
    for (name, arguments), (state, digest, result, after) in zip(calls, seen, strict=True):
        world.restore(state)
        assert world.state_hash() == digest
        assert small.toolbox.call(world, name, arguments) == result
        assert world.state_hash() == after
