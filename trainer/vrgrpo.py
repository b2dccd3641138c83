"""VR-GRPO on what was sampled: advantages within a node's siblings, and which nodes are worth learning from.

A node is a state s_t of an episode at which one agent acts; its siblings are G actions drawn from that very state. Over them

    A_i = (R_i - mean_j R_j) / (std_j R_j + eps)        V = variance of R_i (ddof = 1)

and of all nodes of a batch only those with the largest V > 0 are trained. Pure functions: who samples is `trainer.rollout`.

Source: arXiv 2506.19846 (sampling along one trajectory, variance top-K); what K counts over a batch is ours.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch

from himakernels import group_advantages, select_groups
from trainer.rewards import Reward
from trainer.types import Reason

Select = Literal["batch", "query", "agent"]
Normalize = Literal["std", "mean", "leave_one_out", "none"]
Sampling = Literal["trajectory", "tree"]


@dataclass(frozen=True, kw_only=True)
class VRGRPOConfig:
    """How actions are sampled, rewarded and selected. Raises: ValueError for a field that is not what its sentence says."""

    group_size: int = 8
    """G, the actions at a node, the trajectory's own among them; at least 1 (which leaves nothing to compare)."""
    top_k: int | None = 5
    """Nodes that learn, for each query; None: all whose rewards differ."""
    select: Select = "batch"
    """Where nodes compete: "batch": the best top_k * queries of all; "query": top_k of each query; "agent": the same number
    as of "batch", divided evenly (rounded up) between the agents that acted."""
    normalize: Normalize = "std"
    """What an advantage is, see `himakernels.group_advantages`."""
    eps: float = 1e-4
    """Added to a std before dividing by it."""
    efficiency: float = 0.2
    """lambda of R_E, in [0, 1). At 0 an accuracy may be any finite number, not only one in [0, 1]."""
    format: float = 1.0
    """R_F of an action in the grammar; at least 0."""
    continuation: bool = True
    """Each sampled action is completed to the end of its episode. False: only the last node of a trajectory has siblings, and
    one that doesn't end its episode there has accuracy 0: for tasks of one step."""
    sampling: Sampling = "trajectory"
    """"trajectory": G actions at every node of one initial trajectory. "tree": naive joint sampling, for comparison: every
    node of every branch splits, and an action earns the mean over the leaves below it."""
    branching: int = 2
    """Actions at a node of the tree; at least 2."""
    leaves: int = 36
    """The tree of a query stops splitting at so many leaves. 36 trajectories are the cost of "trajectory" with 5 nodes and
    G = 8."""
    trained_agents: tuple[str, ...] | None = None
    """The agents whose nodes have siblings; None: all. The others play, and learn nothing."""

    def __post_init__(self) -> None:
        self._check("group_size", self.group_size >= 1, "at least 1")
        self._check("top_k", self.top_k is None or self.top_k >= 1, "at least 1 or None")
        self._check("select", self.select in get_args(Select), f"one of {', '.join(get_args(Select))}")
        self._check("normalize", self.normalize in get_args(Normalize), f"one of {', '.join(get_args(Normalize))}")
        self._check("eps", 0 < self.eps < math.inf, "above 0")
        self._check("efficiency", 0 <= self.efficiency < 1, "0 to below 1")
        self._check("format", 0 <= self.format < math.inf, "at least 0")
        self._check("sampling", self.sampling in get_args(Sampling), f"one of {', '.join(get_args(Sampling))}")
        self._check("branching", self.branching >= 2, "at least 2")
        self._check("leaves", self.leaves >= 1, "at least 1")
        self._check("trained_agents", self.trained_agents is None or bool(self.trained_agents), "at least one agent or None")
        self._check("continuation", self.continuation or self.sampling == "trajectory", 'True with sampling="tree"')
        self._check("continuation", self.continuation or self.trained_agents is None, "True with trained_agents")

    def _check(self, name: str, fits: bool, expected: str) -> None:
        if not fits:
            raise ValueError(f"{name}: expected {expected}, got {getattr(self, name)!r}")


@dataclass(frozen=True, kw_only=True)
class Sibling:
    """One action at a node, and what came of it.

    Sibling(token_ids=(812, 7, 2), rollout_logprobs=(-0.1, -0.7, -0.0), finish_reason="stop", text="Final Answer: 5",
    terms=Reward(1.0, 1.0, 0.0), parsed=True, calls=3, reason="answered", error=None, texts=("Final Answer: 5",))
    """

    token_ids: tuple[int, ...]  # its stop token included
    rollout_logprobs: tuple[float, ...]
    finish_reason: str
    text: str
    terms: Reward  # R_A, R_F, R_E; accuracy and cost are NaN where the scorer failed
    parsed: bool  # the action is in the grammar
    calls: int  # of tools and sub-agents, in the whole episode that it was completed to
    reason: Reason | None  # why that ended; None: it was not completed, or it failed
    error: str | None  # what went wrong where the reward is NaN
    texts: tuple[str, ...]  # all that the node's agent wrote in that episode

    @property
    def reward(self) -> float:
        """R = R_A + R_F - R_E; NaN where the scorer failed."""
        return self.terms.total


@dataclass(frozen=True, kw_only=True)
class NodeGroup:
    """A node and its siblings, the initial trajectory's own action first: `NodeGroup(task=3, task_id="efc-00012", agent="efc",
    policy="efc", policy_version=7, node=1, prompt_ids=(1, 5, ...), siblings=(Sibling(...), ...), query="Cancel O00012.",
    used=(4, 19), written=0)`."""

    task: int  # which of the batch's queries
    task_id: str
    agent: str
    policy: str
    policy_version: int
    node: int  # of the episode, from 0
    prompt_ids: tuple[int, ...]  # s_t, up to where the action begins
    siblings: tuple[Sibling, ...]
    query: str  # what the agent's memory was asked with, at its first task
    used: tuple[int, ...]  # ids of the memory's entries that the prompt shows
    written: int  # how many of each sibling's `texts` came before this node

    @property
    def rewards(self) -> tuple[float, ...]:
        """R of each sibling."""
        return tuple(sibling.reward for sibling in self.siblings)


class Selection(NamedTuple):
    """What `select` found, in the order of its groups."""

    advantages: list[list[float]]  # of each group's siblings; 0 where the reward is NaN
    mean: list[float]
    variance: list[float]  # ddof = 1
    selected: list[bool]


class Trained(NamedTuple):
    """A sibling that learns: `Trained(group=4, node=NodeGroup(...), sibling=Sibling(...), advantage=-0.7)`."""

    group: int
    node: NodeGroup
    sibling: Sibling
    advantage: float


def select(groups: Sequence[NodeGroup], config: VRGRPOConfig) -> Selection:
    """Advantages, means and variances of the groups' rewards, and which groups learn (see VRGRPOConfig.select).

    Groups may differ in size. A NaN reward counts nowhere; a group of one has variance 0, and a group without variance never
    learns. Ties go to the earlier group.
    """
    rewards = torch.tensor([reward for group in groups for reward in group.rewards], dtype=torch.float64)
    sizes = torch.tensor([len(group.siblings) for group in groups], dtype=torch.int64)
    group_id = torch.repeat_interleave(torch.arange(len(groups)), sizes)
    found = group_advantages(rewards, group_id, num_groups=len(groups), normalize=config.normalize, eps=config.eps)
    queries = _numbers([group.task for group in groups])
    agents = _numbers([group.agent for group in groups])
    top_k, per = config.top_k, None
    if top_k is not None and groups:
        if config.select == "query":
            per = queries
        else:
            top_k *= int(queries.max()) + 1
        if config.select == "agent":
            per = agents
            top_k = math.ceil(top_k / (int(agents.max()) + 1))
    selected = select_groups(found.variance, top_k=top_k, per=per)
    advantages = [part.tolist() for part in found.advantages.split(sizes.tolist())]
    return Selection(advantages, found.mean.tolist(), found.variance.tolist(), selected.tolist())


def trained(groups: Sequence[NodeGroup], selection: Selection) -> Iterator[Trained]:
    """The siblings of the selected groups whose rewards are known, with their advantages."""
    for number, (group, advantages) in enumerate(zip(groups, selection.advantages, strict=True)):
        if selection.selected[number]:
            for sibling, advantage in zip(group.siblings, advantages, strict=True):
                if not math.isnan(sibling.reward):
                    yield Trained(number, group, sibling, advantage)


def _numbers(names: Sequence[str] | Sequence[int]) -> torch.Tensor:
    """[n] int64: equal names, equal numbers, from 0 in the order in which they come."""
    known: dict[str | int, int] = {}
    return torch.tensor([known.setdefault(name, len(known)) for name in names], dtype=torch.int64)
