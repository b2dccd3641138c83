"""Policies that a run left, asked: an episode turn by turn, with its memory as it is then.

with open_system("runs/tiny") as system:
    for said in system.ask("Where is my order O00012?"):
        print(said.agent, said.step, said.observation)
    print(system.outcome.answer)
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from trainer.agents import Agent, hima_ecom_agents, master_only_agents
from trainer.config import TrainConfig
from trainer.engine.base import Engine
from trainer.engine.local import LocalEngine
from trainer.env import Environment, Step
from trainer.episode import Episode
from trainer.hima_ecom import World
from trainer.hima_ecom.environment import HimaEcomEnv
from trainer.hima_ecom.tasks import Task
from trainer.parts_of import prompt_limit
from trainer.play import Player, Table
from trainer.prompts_env import NAME, PromptsEnv, prompt_agents
from trainer.react import Action, Answer, Malformed
from trainer.recall import Recall
from trainer.saved import SavedRun, open_run
from trainer.types import Outcome

_KNOWN = (hima_ecom_agents, master_only_agents, prompt_agents)


class Said(NamedTuple):
    """A turn: who wrote what, and what that means. observation: what it is told by a tool, or where its call is refused; None
    where a sub-agent's turn follows (`delegates`), or none. strategies: what its memory gave, at its first turn. depth: 0 for
    the agent that was asked, 1 for those that it called."""

    agent: str
    text: str
    step: Action | Answer | Malformed
    observation: str | None
    delegates: bool
    strategies: tuple[str, ...]
    depth: int


class System:
    """Agents with the policies that they trained, and a memory that isn't changed.

    Args:
        saved: configuration, policies, memory.
        agents, make_env: who plays where; a query is the environment's task. The first agent is asked.
        temperature: 0 takes the likeliest token; None: that of the run's evaluations.
        engine: None: the local one.

    Attributes: outcome: how the last query ended; None where its environment raised, and `error` says what.
    """

    def __init__(
        self,
        saved: SavedRun,
        agents: Mapping[str, Agent],
        make_env: Callable[[], Environment],
        *,
        temperature: float | None = None,
        seed: int = 0,
        engine: Engine | None = None,
    ) -> None:
        self.saved, self.agents, self.make_env, self.seed = saved, agents, make_env, seed
        self.engine: Engine = LocalEngine(saved.policies, saved.config.local) if engine is None else engine
        self.temperature = saved.config.eval_temperature if temperature is None else temperature
        self.outcome: Outcome | None = None
        self.error: str | None = None

    def ask(self, query: str) -> Iterator[Said]:
        """Plays a query, turn by turn; `outcome` says how it ended. Raises: what the engine raises."""
        self.outcome, self.error = None, None
        config, saved = self.saved.config, self.saved
        style: Any = config.prompt_style
        episode = Episode(
            self.make_env(),
            self.agents,
            task=query,
            seed=self.seed,
            limits=config.limits,
            retrieve=Recall(saved.memory).strategies,
            entry=next(iter(self.agents)),
            style=style,
        )
        table = Table(
            self.engine,
            saved.policies,
            replace(saved.params, temperature=self.temperature),
            seed=self.seed,
            max_prompt_tokens=prompt_limit(config, saved.policies),
            template_kwargs=config.chat_template_kwargs,
        )
        player, told, depth = Player(episode, (0,)), set[str](), 0
        while table.ask(player):
            agent = player.agent
            (turn,) = table.sample([player])
            table.tell(player, turn)
            step = self.agents[agent].read(turn.text)
            last = episode.contexts[agent][-1]
            strategies = () if agent in told else episode.strategies[agent]
            told.add(agent)
            observation = last.content.removeprefix("Observation: ") if last.role == "user" else None
            delegates = isinstance(step, Action) and step.name in self.agents[agent].subagents and observation is None
            yield Said(agent, turn.text, step, observation, delegates, strategies, depth)
            depth += delegates - isinstance(step, Answer)
        self.outcome, self.error = (episode.outcome if player.error is None else None), player.error


@contextmanager
def open_system(
    folder: str | os.PathLike[str],
    *,
    customer: str | None = None,
    device: str | None = None,
    temperature: float | None = None,
    seed: int = 0,
) -> Iterator[System]:
    """What a run has left (`open_run`), over the run's own store.

    Args: customer: who is logged in; None: nobody.

    Raises: as `open_run`; ValueError for a run of other agents than the benchmark's or a data set's of prompts, or an unknown
        customer.
    """
    with open_run(folder, device=device) as saved:
        names = saved.policies.agents
        agents = next((known() for known in _KNOWN if set(known()) == set(names)), None)
        if agents is None:
            benchmark = ", ".join(hima_ecom_agents())
            raise ValueError(f"{folder}: expected a run of the agents {benchmark}, or {NAME}, got {', '.join(names)}")
        make_env: Callable[[], Environment] = AskedPrompt if NAME in agents else _store(saved.config, customer)
        yield System(saved, agents, make_env, temperature=temperature, seed=seed)


_TASK = Task(
    id="", column="", split="", language="", difficulty=1, family="", query="", final_response="", checker={}, minimal_calls=0
)


class AskedPrompt(PromptsEnv):
    """The prompt alone is the task."""

    def reset(self, task: Any, seed: int = 0) -> str:
        """The prompt itself."""
        return str(task)


class AskedStore(HimaEcomEnv):
    """A query alone is the task; what is answered is not judged.

    Args: customer: who is logged in; None: nobody.
    """

    def __init__(self, world: World, customer: str | None = None) -> None:
        super().__init__(world)
        self.customer = customer

    def reset(self, task: Any, seed: int = 0) -> str:
        """The query itself."""
        return super().reset(replace(_TASK, query=str(task), customer_id=self.customer))

    def step(self, action: Action | Answer | None, *, agent: str | None = None) -> Step:
        """Runs a tool; ends at an answer, without a reward."""
        return super().step(action, agent=agent) if isinstance(action, Action) else Step("", None, True)


def _store(config: TrainConfig, customer: str | None) -> Callable[[], Environment]:
    data = config.data
    world = World.in_memory(data.seed, data.world) if data.path is None else World.open(Path(data.path) / "store.sqlite")
    if customer is not None and world.row("customers", customer) is None:
        known = world.all("customers")[0]["customer_id"]
        raise ValueError(f"customer: expected one of the store, such as {known}, got {customer}")
    return lambda: AskedStore(world, customer)
