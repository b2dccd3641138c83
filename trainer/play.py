"""Episodes in lockstep: all that go on ask the engine together, one batch a round, on token contexts.

players = play(engine, policies, [Episode(...), ...], params, seed=7)
players[0].episode.outcome, players[0].contexts["efc"].token_ids
"""

import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from trainer.dialogue import TokenContext
from trainer.engine.base import ContinuousEngine
from trainer.episode import Episode
from trainer.types import Sample

if TYPE_CHECKING:
    from trainer.engine.base import Engine, SamplingParams


class Policies(Protocol):
    """Who speaks for an agent; `trainer.models.Policies` is one."""

    @property
    def tokenizer(self) -> Any:
        """Of all policies."""

    @property
    def policy_of(self) -> Mapping[str, str]:
        """{agent: policy}."""


@dataclass(eq=False, slots=True)
class Player:
    """An episode in play.

    key: what its seeds are made from. contexts: {agent: its context}; a context that stands here is not changed while its
    agent waits, so that whoever keeps the dictionary keeps the state. written: {agent: its texts}; order: whose each text was.
    samples: how often the engine was asked for it. error: what the environment raised; the episode is over then, without an
    outcome.
    """

    episode: Episode
    key: tuple[int, ...]
    contexts: dict[str, TokenContext] = field(default_factory=dict)
    written: dict[str, tuple[str, ...]] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    samples: int = 0
    error: str | None = None
    agent: str = ""  # who is asked next


class Turn(NamedTuple):
    """What the engine sampled, and its text."""

    sample: Sample
    text: str


@dataclass
class Traffic:
    """What passed between players and engine. truncated: samples that were cut at max_new_tokens."""

    samples: int = 0
    prompt_tokens: int = 0
    sampled_tokens: int = 0
    truncated: int = 0
    seconds: float = 0.0


class Table:
    """Where players sit: `ask` who goes on, `sample` for all of them at once, `tell` each what it wrote. Or, so that nobody
    waits for the longest text of a round, `submit` each that goes on and `collect` turns as they come.

    Args:
        seed: with a player's key and the number of its sample it makes that sample's seed.
        max_prompt_tokens: an episode whose next prompt is longer ends with reason "context limit"; None: no limit.
        template_kwargs: for the chat template, see `TokenContext`.
    """

    def __init__(
        self,
        engine: "Engine",
        policies: Policies,
        params: "SamplingParams",
        *,
        seed: int = 0,
        max_prompt_tokens: int | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        if max_prompt_tokens is not None and max_prompt_tokens < 1:
            raise ValueError(f"max_prompt_tokens: expected at least 1 or None, got {max_prompt_tokens}")
        self.engine, self.policies, self.params, self.seed = engine, policies, params, seed
        self.max_prompt_tokens, self.template_kwargs = max_prompt_tokens, template_kwargs
        self.traffic = Traffic()
        self._continuous = engine if isinstance(engine, ContinuousEngine) else None  # looked at once: it is slow
        self._versions: dict[str, int] = {}
        self._waiting: dict[int, Player] = {}  # by the engine's number of what was asked for them
        self._held: list[Player] = []  # until `collect`, where the engine takes whole batches only

    def policy(self, agent: str) -> str:
        """Raises: ValueError for an agent without one."""
        try:
            return self.policies.policy_of[agent]
        except KeyError:
            raise ValueError(f"policies: expected one for agent {agent!r}, got {', '.join(self.policies.policy_of)}") from None

    def ask(self, player: Player) -> bool:
        """Whether the player goes on; its agent's context then ends where the next turn begins."""
        request = None if player.error is not None else player.episode.request
        if request is None:
            return False
        known = player.contexts.get(request.agent)
        context = TokenContext(self.policies.tokenizer, template_kwargs=self.template_kwargs) if known is None else known.fork()
        context.sync(request.messages)
        if self.max_prompt_tokens is not None and len(context.token_ids) > self.max_prompt_tokens:
            try:
                player.episode.give_up("context limit")
            except Exception as error:
                player.error = describe(error)
            return False
        player.agent, player.contexts = request.agent, {**player.contexts, request.agent: context}
        return True

    def sample(self, players: Sequence[Player]) -> list[Turn]:
        """The next turn of each player that goes on.

        Raises: RuntimeError if a policy's weights changed since the first sample: siblings would be compared that are not of
        one policy.
        """
        prompts = [player.contexts[player.agent].token_ids for player in players]
        policies = [self.policy(player.agent) for player in players]
        start = time.perf_counter()
        samples = self.engine.generate(prompts, 1, self.params, policies, [self._seed(player) for player in players])
        self.traffic.seconds += time.perf_counter() - start
        return [self._turn(player, sample) for player, (sample,) in zip(players, samples, strict=True)]

    def submit(self, player: Player) -> None:
        """Asks for the next turn of a player that goes on; `collect` will bring it."""
        if self._continuous is None:
            self._held.append(player)
            return
        prompt, policy = player.contexts[player.agent].token_ids, self.policy(player.agent)
        start, seed = time.perf_counter(), self._seed(player)
        # In one statement: an interrupt between two would leave a request that nobody knows of.
        self._waiting[self._continuous.submit(prompt, params=self.params, policy=policy, seed=seed)] = player
        self.traffic.seconds += time.perf_counter() - start

    def collect(self) -> list[tuple[Player, Turn]]:
        """The turns that have come first, at least one; none if nobody waits. Raises: as `sample`; what a request failed by."""
        if self._held:
            held, self._held = self._held, []
            return list(zip(held, self.sample(held), strict=True))
        found: list[tuple[Player, Turn]] = []
        while self._waiting and not found:
            assert self._continuous is not None
            start = time.perf_counter()
            finished = self._continuous.step()
            self.traffic.seconds += time.perf_counter() - start
            for number, samples, error in finished:
                if error is not None:
                    raise error
                player = self._waiting.pop(number)
                found.append((player, self._turn(player, samples[0])))
        return found

    def cancel(self) -> None:
        """Gives up whatever was submitted and has not come."""
        for number in self._waiting:
            assert self._continuous is not None
            self._continuous.cancel(number)
        self._waiting.clear()
        self._held.clear()

    def _seed(self, player: Player) -> int:
        return seed_of(self.seed, *player.key, player.samples)

    def _turn(self, player: Player, sample: Sample) -> Turn:
        """Counted, and checked to be of the same weights as all others of its policy."""
        policy = self.policy(player.agent)
        if (version := self._versions.setdefault(policy, sample.policy_version)) != sample.policy_version:
            raise RuntimeError(f"policy {policy!r}: expected weights of version {version}, got {sample.policy_version}")
        self.traffic.samples += 1
        self.traffic.prompt_tokens += len(player.contexts[player.agent].token_ids)
        self.traffic.sampled_tokens += len(sample.token_ids)
        self.traffic.truncated += sample.finish_reason == "length"
        plain = player.episode.agents[player.agent].plain  # all that it wrote is its answer
        return Turn(sample, player.contexts[player.agent].text_of(sample.token_ids, thought=not plain))

    def tell(self, player: Player, turn: Turn) -> None:
        """Plays a turn. What the environment raises ends this player's episode, and no other's."""
        player.contexts[player.agent].append(turn.sample.token_ids, turn.sample.rollout_logprobs)
        player.written = {**player.written, player.agent: (*player.written.get(player.agent, ()), turn.text)}
        player.order += (player.agent,)
        player.samples += 1
        try:
            player.episode.act(turn.text)
        except Exception as error:
            player.error = describe(error)


def play(
    engine: "Engine",
    policies: Policies,
    episodes: Sequence[Episode],
    params: "SamplingParams",
    *,
    seed: int = 0,
    max_prompt_tokens: int | None = None,
    template_kwargs: Mapping[str, Any] | None = None,
) -> list[Player]:
    """Plays all episodes to their ends, in lockstep; returns their players in the same order. Args: see Table.

    The n-th sample of episode i has a seed of its own, made from (seed, i, n). An environment that raises costs its own episode
    only: `Player.error` says why.
    """
    table = Table(engine, policies, params, seed=seed, max_prompt_tokens=max_prompt_tokens, template_kwargs=template_kwargs)
    players = [Player(episode, (number,)) for number, episode in enumerate(episodes)]
    live = players
    while live := [player for player in live if table.ask(player)]:
        for player, turn in zip(live, table.sample(live), strict=True):
            table.tell(player, turn)
    return players


def seed_of(*numbers: int) -> int:
    """A seed in [0, 2^63) from whole numbers in [-2^63, 2^63): equal for equal ones, else independent."""
    digest = blake2b(struct.pack(f"<{len(numbers)}q", *numbers), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def describe(error: Exception) -> str:
    """An exception in a line."""
    return f"{type(error).__name__}: {error}"
