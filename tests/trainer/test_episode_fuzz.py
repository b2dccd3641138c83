"""Whatever policies write, an episode goes on or ends, its contexts only grow, and every state can be gone back to.

The environment variable HIMA_FUZZ_EXAMPLES sets how many episodes are played.
"""

import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plays import CUSTOMER, ORDER, StoreEnv, task, walk

from trainer.agents import hima_ecom_agents
from trainer.episode import Episode, Limits
from trainer.hima_ecom import TOOLS
from trainer.react import Action, Answer, render

EXAMPLES = int(os.environ.get("HIMA_FUZZ_EXAMPLES", "100"))
AGENTS = hima_ecom_agents()
NAMES = [*AGENTS, *(tool["function"]["name"] for tools in TOOLS.values() for tool in tools), "unknown"]
VALUE = st.one_of(st.text(max_size=8), st.sampled_from([ORDER, CUSTOMER, "1 + 1", None, 3, True, [], {}]))
KEYS = st.sampled_from(["task", "order_id", "expression", "query", "text", "x"])
ACTION = st.builds(Action, st.sampled_from(NAMES), st.dictionaries(KEYS, VALUE, max_size=2)).map(render)
ASK = st.sampled_from(["qa", "efc", "gfc", "math"]).map(lambda name: render(Action(name, {"task": "do it"})))
SAY = st.sampled_from(["done", "no"]).map(lambda text: render(Answer(text)))
ANY_TEXT = st.text(st.characters(codec=None), max_size=20)
TEXTS = st.lists(st.one_of(ASK, ACTION, ACTION, SAY, st.sampled_from(walk()), ANY_TEXT), max_size=16)
LIMITS = st.builds(
    Limits,
    nodes=st.integers(1, 20),
    calls=st.integers(1, 5),
    delegations=st.integers(1, 4),
    observation=st.integers(1, 200),
    malformed=st.sampled_from(["end", "observe", "observe"]),
)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(TEXTS, LIMITS, st.data())
def test_any_episode(texts: list[str], limits: Limits, data: st.DataObject) -> None:
    episode = Episode(StoreEnv(), AGENTS, task=task(), limits=limits)
    states, history = [], []
    for node, text in enumerate(texts):
        states.append(episode.snapshot())
        history.append((episode.request, episode.contexts, episode.env.session.state_hash()))
        if episode.request is None:
            break
        assert episode.request.node == node < limits.nodes
        before = episode.contexts
        episode.act(text)
        for agent, messages in before.items():
            assert episode.contexts[agent][: len(messages)] == messages
        for agent, messages in episode.contexts.items():
            assert messages[0].role == "system"
            roles = [message.role for message in messages[1:]]
            assert roles == (["user", "assistant"] * len(roles))[: len(roles)], agent
            "".join(message.content for message in messages).encode()
    assert episode.done == (episode.outcome is not None) == (episode.request is None)
    if episode.outcome is not None:
        assert episode.reward == float(episode.outcome.answer == "done")
        assert (episode.outcome.reason == "answered") == (episode.outcome.answer is not None)
        assert len(episode.outcome.parsed) <= limits.nodes
    if states:
        place = data.draw(st.integers(0, len(states) - 1))
        episode.restore(states[place])
        assert (episode.request, episode.contexts, episode.env.session.state_hash()) == history[place]
