"""Lockstep play of many episodes on token contexts."""

from typing import Any

import pytest
from scripted import AGENTS, Counter, ScriptedEngine, hierarchy, policies, say, tokenizer

from trainer.dialogue import TokenContext
from trainer.episode import Episode
from trainer.play import Player, Table, play, seed_of


def episodes(count: int) -> list[Episode]:
    return [Episode(Counter(), AGENTS, task={"query": f"Count {i}.", "target": 3}) for i in range(count)]


def test_episodes_play_in_lockstep() -> None:
    engine = ScriptedEngine(hierarchy)
    players = play(engine, policies(), episodes(3), None, seed=1)
    assert [len(asked) for asked in engine.rounds] == [3] * 5
    for player in players:
        assert player.episode.done
        assert player.samples == 5
        for agent, messages in player.episode.contexts.items():
            context = player.contexts[agent]
            # The tokens are those of the template over the whole context, but for the line's end after the last turn.
            shown = tokenizer().apply_chat_template([m._asdict() for m in messages], tokenize=False)
            assert tokenizer().decode(context.token_ids) == shown.removesuffix("\n")
            assert player.written[agent] == tuple(m.content for m in messages if m.role == "assistant")
            assert context.logprobs is not None
            assert sum(context.mask) == context.logprobs.count(-0.5)
    written = [[p.written for p in play(ScriptedEngine(hierarchy), policies(), episodes(3), None, seed=s)] for s in (1, 2)]
    assert written[0] == [p.written for p in players] != written[1]


def test_what_stands_in_a_kept_dictionary_stays() -> None:
    """Whoever keeps `contexts` between ask and tell, with the asked one forked, has the state."""
    table = Table(ScriptedEngine(hierarchy), policies(), None)
    player = Player(episodes(1)[0], (0,))
    kept: list[tuple[dict[str, TokenContext], dict[str, list[int]]]] = []
    while table.ask(player):
        contexts = player.contexts | {player.agent: player.contexts[player.agent].fork()}
        kept.append((contexts, {agent: context.token_ids.copy() for agent, context in contexts.items()}))
        table.tell(player, table.sample([player])[0])
    assert len(kept) == 5
    for contexts, then in kept:
        assert {agent: context.token_ids for agent, context in contexts.items()} == then


def test_an_environment_that_raises() -> None:
    class Broken(Counter):
        def step(self, action: Any, *, agent: str | None = None) -> Any:
            raise OSError("gone")

    mixed = [Episode(Broken(), AGENTS, task={"query": "x", "target": 3}), *episodes(1)]
    broken, well = play(ScriptedEngine(hierarchy), policies(), mixed, None)
    assert (broken.error, broken.episode.outcome) == ("OSError: gone", None)
    assert well.error is None
    assert well.episode.done
    only = Episode(Broken(), AGENTS, task={"query": "x", "target": 3})
    (late,) = play(ScriptedEngine(lambda *asked: say("0")), policies(), [only], None, max_prompt_tokens=1)
    assert late.error == "OSError: gone"  # raised as it gave up


def test_what_the_engine_raises_is_raised() -> None:
    def write(*asked: Any) -> str:
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        play(ScriptedEngine(write), policies(), episodes(1), None)


def test_seeds() -> None:
    seeds = {seed_of(*key) for key in [(0,), (0, 0), (1,), (0, 1), (1, 0), (-1,), (2**63 - 1,)]}
    assert len(seeds) == 7
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of(7, 1, 2) == 5131819315702240109  # on every machine, in every version
