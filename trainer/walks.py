"""The order of sampling: who starts where, which states are kept, and which actions an episode's end is the end of."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from trainer.dialogue import TokenContext
from trainer.episode import Episode, Snapshot
from trainer.play import Player, Table, Turn, describe
from trainer.react import Action, parse
from trainer.recall import Asking, Recall
from trainer.types import Reason, Sample
from trainer.vrgrpo import VRGRPOConfig


@dataclass(slots=True)
class Leaf:
    """The end of a trajectory."""

    accuracy: float  # NaN: not scored
    calls: int
    reason: Reason | None
    error: str | None
    parsed: bool  # all actions are in the grammar
    written: dict[str, tuple[str, ...]]
    failed: bool = False  # something raised: the environment, or who scores


@dataclass(eq=False, slots=True)
class Draft:
    """A sampled action, and the trajectories that it was completed to."""

    sample: Sample
    text: str
    sibling: int = 0  # its place among the node's actions
    leaves: list[Leaf] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Node:
    """A state that actions are sampled from, and what any number of players need to go on from it."""

    task: int
    agent: str
    node: int
    state: Snapshot
    contexts: dict[str, TokenContext]
    written: dict[str, tuple[str, ...]]
    order: tuple[str, ...]
    queries: dict[str, str]
    drafts: list[Draft] = field(default_factory=list)

    def add(self, turn: Turn, sibling: int = 0) -> Draft:
        """An action at the node."""
        self.drafts.append(Draft(*turn, sibling))
        return self.drafts[-1]


@dataclass(eq=False, slots=True)
class Walker:
    """A player, the query it is about, and the actions that its end is the end of."""

    player: Player
    task: int
    asking: Asking
    drafts: tuple[Draft, ...] = ()
    node: Node | None = None  # where it starts as a sibling


class Lost(NamedTuple):
    """A trajectory that could not begin: the environment raised when it was made, reset or restored."""

    error: str
    sibling: bool


class Sampler:
    """One call of `sample_groups`."""

    def __init__(
        self, table: Table, recall: Recall, tasks: Sequence[Any], config: VRGRPOConfig, episode: Callable[..., Episode]
    ) -> None:
        self.table, self.recall, self.tasks, self.config, self.episode = table, recall, tasks, config, episode
        self.nodes: list[Node] = []
        self.walkers: list[Walker] = []
        self.lost: list[Lost] = []
        self._of: dict[int, Walker] = {}  # by the id of its player

    def start(self, task: int, key: tuple[int, ...], node: Node | None = None) -> list[Walker]:
        """A player at the beginning of a query's episode, or at a node; none if its environment raises."""
        asking = Asking(self.recall)
        try:
            episode = self.episode(task, asking)
            if node is not None:
                episode.restore(node.state)
        except Exception as error:  # whatever an environment raises is that trajectory's
            self.lost.append(Lost(describe(error), node is not None))
            return []
        self.walkers.append(Walker(Player(episode, key), task, asking, node=node))
        return self.walkers[-1:]

    def starts(self) -> list[Walker]:
        """The initial trajectory of each query."""
        return [walker for number in range(len(self.tasks)) for walker in self.start(number, (number, 0, 0))]

    def branch(self, node: Node, key: tuple[int, ...], drafts: tuple[Draft, ...] = ()) -> list[Walker]:
        """Another player at a node, before its action; none if its environment raises."""
        walkers = self.start(node.task, key, node)
        for walker in walkers:
            player = walker.player
            player.contexts, player.written, player.order = node.contexts, node.written, node.order
            walker.asking.queries = node.queries.copy()
            walker.drafts = drafts
        return walkers

    def keep(self, walker: Walker) -> Node | None:
        """The state of a walker that is about to act; None for an agent that isn't trained, and if the environment raises: that
        ends its trajectory."""
        player, agents = walker.player, self.config.trained_agents
        if agents is not None and player.agent not in agents:
            return None
        request = player.episode.request
        assert request is not None
        contexts = player.contexts | {player.agent: player.contexts[player.agent].fork()}
        try:
            state = player.episode.snapshot()
        except Exception as error:
            player.error = describe(error)
            return None
        queries = walker.asking.queries.copy()
        node = Node(walker.task, player.agent, request.node, state, contexts, player.written, player.order, queries)
        self.nodes.append(node)
        return node

    def live(self, walkers: Sequence[Walker]) -> list[Walker]:
        """Those that go on."""
        return [walker for walker in walkers if self.table.ask(walker.player)]

    def tell(self, walker: Walker, turn: Turn) -> None:
        """Plays a turn, unless the trajectory has ended meanwhile."""
        if walker.player.error is None:
            self.table.tell(walker.player, turn)

    def sample(self, walkers: Sequence[Walker]) -> list[Turn]:
        """A turn for each."""
        turns = self.table.sample([walker.player for walker in walkers])
        self._look_up(zip(walkers, turns, strict=True))
        return turns

    def turns(self, walkers: Sequence[Walker]) -> Iterator[tuple[Walker, Turn]]:
        """The turns of those that go on, as they come, and of all that `go_on` later."""
        self._of = {}
        self.go_on(walkers)
        while came := [(self._of[id(player)], turn) for player, turn in self.table.collect()]:
            self._look_up(came)
            yield from came

    def go_on(self, walkers: Sequence[Walker]) -> None:
        """`turns` will bring the next turn of those that don't end here."""
        for walker in self.live(walkers):
            self._of[id(walker.player)] = walker
            self.table.submit(walker.player)

    def _look_up(self, turns: Iterable[tuple[Walker, Turn]]) -> None:
        """What the agents that are called will ask their memories, in one go."""
        self.recall.look_up(
            (action.name, task)
            for walker, turn in turns
            if isinstance(action := parse(turn.text), Action) and action.name in walker.player.episode.agents
            if isinstance(task := action.arguments.get("task"), str) and task.strip()
        )

    def trajectories(self) -> None:
        """One initial trajectory a query, and the siblings of its nodes: each sets out when the trajectory passes its node,
        which is all that it depends on."""
        complete = self.config.continuation
        for walker, turn in self.turns(self.starts()):
            node = self.keep(walker) if walker.node is None else None
            if node is not None:
                walker.drafts += (node.add(turn),)
            elif walker.node is not None and not walker.drafts:
                walker.drafts = (walker.node.add(turn, walker.player.key[-1]),)
            self.tell(walker, turn)
            self.go_on([walker, *(self.siblings(node) if node is not None and complete else ())])
        if not complete:
            self.nodes = list({node.task: node for node in self.nodes}.values())
            for walker, turn in self.turns([walker for node in self.nodes for walker in self.siblings(node)]):
                assert walker.node is not None
                walker.drafts = (walker.node.add(turn, walker.player.key[-1]),)
                self.tell(walker, turn)
        self.nodes.sort(key=lambda node: (node.task, node.node))
        for node in self.nodes:
            node.drafts.sort(key=lambda draft: draft.sibling)
        self.walkers.sort(key=lambda walker: walker.player.key)

    def siblings(self, node: Node) -> list[Walker]:
        """The other G - 1 at a node."""
        keys = [(node.task, node.node, sibling) for sibling in range(1, self.config.group_size)]
        return [walker for key in keys for walker in self.branch(node, key)]

    def trees(self) -> None:
        """Every node splits, those of all queries' branches in lockstep, until a query has its number of leaves."""
        live = self.starts()
        leaves = [1] * len(self.tasks)
        while live := self.live(live):
            crowd: list[tuple[Walker, Node | None]] = []
            for walker in live:
                size = min(self.config.branching, self.config.leaves - leaves[walker.task] + 1)
                node = self.keep(walker) if size > 1 else None
                crowd.append((walker, node))
                if node is not None:
                    keys = [(*walker.player.key, node.node, sibling) for sibling in range(1, size)]
                    others = [other for key in keys for other in self.branch(node, key, walker.drafts)]
                    crowd += [(other, node) for other in others]
                    leaves[walker.task] += len(others)
            crowd = [(walker, node) for walker, node in crowd if self.table.ask(walker.player)]
            live = [walker for walker, _ in crowd]
            for (walker, node), turn in zip(crowd, self.sample(live), strict=True):
                if node is not None:
                    walker.drafts += (node.add(turn),)
                self.tell(walker, turn)
        self.nodes.sort(key=lambda node: (node.task, node.node))
