"""The environment's episodes: rewards, ends, states."""

import pytest

from trainer.env import Environment
from trainer.react import Action, Answer
from trainer.tau_retail import Retail, TauRetailEnv

CANCEL = Action("cancel_pending_order", {"order_id": "#W1", "reason": "no longer needed"})
UNPAYABLE = {"order_id": "#W3", "item_ids": ["11"], "new_item_ids": ["15"], "payment_method_id": "gift_card_1"}
TRANSFER = Action("transfer_to_human_agents", {"summary": "help"})
DONE = Answer("done")


@pytest.fixture
def env(small: Retail) -> TauRetailEnv:
    return TauRetailEnv(small)


def test_it_is_an_environment(env: TauRetailEnv) -> None:
    assert isinstance(env, Environment)
    assert len({tool["function"]["name"] for tool in env.tools}) == 16


def test_the_gold_actions_are_rewarded_and_nothing_else_is(env: TauRetailEnv, small: Retail) -> None:
    task = small.tasks["dev"][0]
    assert env.reset(task) == "Cancel #W1."
    assert env.step(Action("get_order_details", {"order_id": "#W1"})).reward is None
    step = env.step(CANCEL, agent="retail")
    assert (step.reward, step.done) == (None, False)
    assert env.step(DONE) == ("", 1.0, True, {"state": True, "outputs": {}})
    wrong = [
        [],
        [Action("cancel_pending_order", CANCEL.arguments | {"reason": "ordered by mistake"})],
        [Action("cancel_pending_order", CANCEL.arguments | {"order_id": "#W2"})],
        [CANCEL, Action("cancel_pending_order", CANCEL.arguments | {"order_id": "#W2"})],
    ]
    for actions in wrong:
        env.reset(task)
        for action in actions:
            env.step(action)
        assert env.step(DONE) == ("", 0.0, True, {"state": False, "outputs": {}})


def test_a_gold_action_that_is_refused_changes_nothing(env: TauRetailEnv, small: Retail) -> None:
    task = small.tasks["dev"][2]
    exchange, cancel = task.actions
    for actions in ([exchange, cancel], [cancel], [exchange, exchange, cancel, cancel]):
        env.reset(task)
        refused = [action for action in actions if env.step(action).observation.startswith('{"error"')]
        assert len(refused) == len(actions) - 1
        assert env.step(DONE).reward == 1.0


def test_a_gold_action_may_be_possible_only_in_another_order(env: TauRetailEnv, small: Retail) -> None:
    """After the cancellation the gift card has what the exchange needs: another state than that of the gold order."""
    env.reset(small.tasks["dev"][2])
    env.step(CANCEL)
    assert "error" not in env.step(Action("exchange_delivered_order_items", UNPAYABLE)).observation
    assert env.step(DONE).reward == 0.0


def test_outputs_are_looked_for_in_the_answer(env: TauRetailEnv, small: Retail) -> None:
    task = small.tasks["dev"][1]
    for text, found in (("MUG: $1,234.50", (True, True)), ("mug", (False, True)), ("1234.5", (True, False))):
        env.reset(task)
        step = env.step(Answer(text))
        assert step.info == {"state": True, "outputs": {"1234.5": found[0], "Mug": found[1]}}
        assert step.reward == float(all(found))
    env.reset(task)
    env.step(CANCEL)
    assert env.step(Answer("mug 1234.5")).reward == 0.0


def test_a_transfer_ends_the_episode(env: TauRetailEnv, small: Retail) -> None:
    env.reset(small.tasks["dev"][0])
    assert not env.step(Action(TRANSFER.name, {})).done
    env.step(CANCEL)
    assert env.step(TRANSFER) == ('{"transferred":true}', 1.0, True, {"state": True, "outputs": {}})
    env.reset(small.tasks["dev"][0])
    assert env.step(TRANSFER)[1:3] == (0.0, True)


def test_giving_up_is_not_rewarded(env: TauRetailEnv, small: Retail) -> None:
    env.reset(small.tasks["dev"][0])
    env.step(CANCEL)
    assert env.step(None) == ("", 0.0, True, {})


def test_states_are_independent(env: TauRetailEnv, small: Retail) -> None:
    task = small.tasks["dev"][0]
    env.reset(task)
    start = env.snapshot()
    env.step(CANCEL)
    cancelled = env.snapshot()
    assert env.step(DONE).reward == 1.0
    other = TauRetailEnv(small)
    other.reset(small.tasks["dev"][1])
    for state, reward in ((start, 0.0), (cancelled, 1.0), (start, 0.0), (cancelled, 1.0)):
        for player in (env, other):
            player.restore(state)
            player.step(Action("modify_pending_order_payment", {"order_id": "#W2", "payment_method_id": "credit_card_1"}))
            player.restore(state)
            assert player.step(DONE).reward == reward
    env.reset(task)
    other.reset(task)
    env.step(CANCEL)
    assert other.world.changes() == {}
    assert set(env.world.changes()) == {"users", "orders"}


def test_misuse(env: TauRetailEnv, small: Retail) -> None:
    with pytest.raises(RuntimeError, match="expected one that goes on, got none; call reset"):
        env.step(DONE)
    with pytest.raises(TypeError, match=r"task: expected a trainer.tau_retail.Task, got dict"):
        env.reset({"id": 0})  # type: ignore[arg-type]
    env.reset(small.tasks["dev"][0])
    with pytest.raises(TypeError, match="action: expected an Action, an Answer or None, got str"):
        env.step("cancel")  # type: ignore[arg-type]
    env.step(DONE)
    with pytest.raises(RuntimeError, match="got one that has ended"):
        env.step(DONE)


def test_equal_numbers_give_equal_hashes(env: TauRetailEnv, small: Retail) -> None:
    """Away from a gift card of 60 and back makes 60.0: the balance is no change."""
    env.reset(small.tasks["dev"][0])
    user = env.world.row("users", "ann")
    assert user is not None
    methods = user["payment_methods"]
    card = methods["gift_card_1"]
    env.world.put("users", "ann", user | {"payment_methods": methods | {"gift_card_1": card | {"balance": 60.0}}})
    assert env.world.changes() == {}
    hashes = []
    for balance in (61, 61.0, 61.5):
        env.world.put("users", "ann", user | {"payment_methods": methods | {"gift_card_1": card | {"balance": balance}}})
        hashes.append(env.world.state_hash())
    assert hashes[0] == hashes[1] != hashes[2]
