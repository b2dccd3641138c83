"""The single agent in episodes of the hierarchy's state machine."""

from trainer.episode import Episode
from trainer.prompts import system_prompt
from trainer.react import Action, Answer, render
from trainer.tau_retail import Retail, Task, TauRetailEnv
from trainer.tau_retail.agent import NAME, tau_retail_agents


def played(retail: Retail, task: Task) -> Episode:
    episode = Episode(TauRetailEnv(retail), tau_retail_agents(retail), task=task, entry=NAME)
    steps: list[Action | Answer] = [*task.actions, Answer(f"Done: {', '.join(task.outputs)}.")]
    for step in steps:
        episode.act(render(step))
    return episode


def test_its_prompt_is_policy_and_tools(small: Retail) -> None:
    prompt = system_prompt(tau_retail_agents(small)[NAME])
    assert small.policy.strip() in prompt
    assert all(schema["function"]["name"] + "(" in prompt for schema in small.toolbox.schemas)
    assert "return_delivered_order_items(order_id: string, item_ids: string[], payment_method_id: string)" in prompt


def test_it_plays_an_episode(small: Retail) -> None:
    for task in small.tasks["dev"]:
        episode = played(small, task)
        assert (episode.done, episode.reward) == (True, 1.0)
        assert episode.outcome is not None
        assert [call.name for call in episode.outcome.calls] == [action.name for action in task.actions]


def test_a_transfer_ends_it(small: Retail) -> None:
    episode = Episode(TauRetailEnv(small), tau_retail_agents(small), task=small.tasks["dev"][0], entry=NAME)
    assert episode.request is not None
    assert episode.request.messages[-1].content == "Task: Cancel #W1."
    episode.act('Action: transfer_to_human_agents\nAction Input: {"summary": "help"}')
    assert (episode.done, episode.reward) == (True, 0.0)


def test_gold_episodes_of_the_folder(retail: Retail) -> None:
    assert [played(retail, task).reward for task in retail.tasks["dev"]] == [1.0] * 20
