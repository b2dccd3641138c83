"""Policies that a run left, asked: an episode turn by turn, with its memory as it is then.

with System.open("runs/tiny") as system:
    for said in system.ask("Where is my order O00012?"):
        print(said.agent, said.step, said.observation)
    print(system.outcome.answer)
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from trainer.agents import Agent, hima_ecom_agents, master_only_agents
from trainer.checkpoint import Checkpoints
from trainer.config import TrainConfig
from trainer.engine.base import Engine
from trainer.engine.local import LocalEngine
from trainer.env import Environment, Step
from trainer.episode import Episode
from trainer.hima_ecom import World
from trainer.hima_ecom.environment import HimaEcomEnv
from trainer.hima_ecom.tasks import Task
from trainer.memory import Memory, load_embedder
from trainer.models import Policies
from trainer.play import Player, Table
from trainer.prompts_env import NAME, PromptsEnv, prompt_agents
from trainer.react import Action, Answer, Malformed
from trainer.recall import Recall
from trainer.run import prompt_limit, stop_tokens
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
        agents, make_env: who plays where; a query is the environment's task.
        memory: None: agents have none.
        temperature: 0 takes the likeliest token.
        entry: who is asked.
        engine: None: the local one.

    Attributes: outcome: how the last query ended; None where its environment raised, and `error` says what.
    """

    def __init__(
        self,
        config: TrainConfig,
        policies: Policies,
        agents: Mapping[str, Agent],
        make_env: Callable[[], Environment],
        *,
        memory: Memory | None = None,
        temperature: float = 0.0,
        seed: int = 0,
        entry: str = "master",
        engine: Engine | None = None,
    ) -> None:
        self.config, self.policies, self.agents, self.make_env = config, policies, agents, make_env
        self.memory, self.seed, self.entry = memory, seed, entry
        ends = config.sampling.stop_token_ids or stop_tokens(policies.tokenizer, config.chat_template_kwargs)
        self.params = replace(config.sampling, temperature=temperature, stop_token_ids=ends)
        self.engine: Engine = LocalEngine(policies) if engine is None else engine
        self.max_prompt_tokens = prompt_limit(config, policies)
        self.outcome: Outcome | None = None
        self.error: str | None = None

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        *,
        customer: str | None = None,
        device: str | None = None,
        temperature: float | None = None,
        seed: int = 0,
    ) -> "System":
        """The policies at the end of a run, else of its last checkpoint, else those that SFT left; over the run's own store.

        Args: customer: who is logged in; None: nobody. temperature: None: the run's eval_temperature.

        Raises: FileNotFoundError for a folder without a run or without policies; ValueError for a run of other agents than the
            benchmark's or a data set's of prompts, or an unknown customer.
        """
        path = Path(folder)
        if not (path / "config.yaml").is_file():
            raise FileNotFoundError(f"{path}: expected the folder of a run with config.yaml, got none")
        config = TrainConfig.load(path / "config.yaml")
        saved, kept = _saved(path)
        policies = Policies.open(saved, device=device)
        agents = next((known() for known in _KNOWN if set(known()) == set(policies.agents)), None)
        if agents is None:
            benchmark = ", ".join(hima_ecom_agents())
            raise ValueError(f"{path}: expected a run of the agents {benchmark}, or {NAME}, got {', '.join(policies.agents)}")
        entry = next(iter(agents))
        make_env: Callable[[], Environment] = AskedPrompt if entry == NAME else _store(config, customer)
        memory = None
        if config.memory is not None and kept is not None and kept.is_file():
            memory = Memory(kept, load_embedder(config.embedder), config=config.memory, frozen=True)
        chosen = config.eval_temperature if temperature is None else temperature
        return cls(config, policies, agents, make_env, memory=memory, temperature=chosen, seed=seed, entry=entry)

    def ask(self, query: str) -> Iterator[Said]:
        """Plays a query, turn by turn; `outcome` says how it ended. Raises: what the engine raises."""
        self.outcome, self.error = None, None
        style: Any = self.config.prompt_style
        episode = Episode(
            self.make_env(),
            self.agents,
            task=query,
            seed=self.seed,
            limits=self.config.limits,
            retrieve=Recall(self.memory).strategies,
            entry=self.entry,
            style=style,
        )
        table = Table(
            self.engine,
            self.policies,
            self.params,
            seed=self.seed,
            max_prompt_tokens=self.max_prompt_tokens,
            template_kwargs=self.config.chat_template_kwargs,
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

    def close(self) -> None:
        """The memory's file is let go."""
        if self.memory is not None:
            self.memory.close()

    def __enter__(self) -> "System":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _saved(path: Path) -> tuple[Path, Path | None]:
    """The policies of a run that are furthest, and the memory as it was with them."""
    if (path / "final" / "policies").is_dir():
        return path / "final" / "policies", path / "memory.sqlite"
    last = Checkpoints(path / "checkpoints").latest()
    if last is not None:
        return last.path / "policies", last.path / "memory.sqlite"
    if (path / "sft" / "policies").is_dir():
        return path / "sft" / "policies", None
    raise FileNotFoundError(f"{path}: expected policies in final, checkpoints or sft, got none yet; `hima train` saves them")


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
