"""What `make paper` runs: arms that begin at one SFT start a seed and differ in a few keys of the configuration."""

from typing import NamedTuple

SEEDS = 3  # of every arm
MORE_SEEDS = 5  # of those that say whether RL learns at all


class Arm(NamedTuple):
    """A run of `hima train CONFIG` with `changes`; `seeds` of it.

    longer: SFT goes on for the seconds that RL took in the arm "joint", in place of RL.
    """

    name: str
    title: str
    changes: tuple[str, ...] = ()
    seeds: int = SEEDS
    longer: bool = False


class Question(NamedTuple):
    """A part of the page: the arms that answer it, the first of them the one the others are compared with."""

    name: str
    title: str
    arms: tuple[str, ...]


ARMS = (
    Arm("joint", "VR-GRPO: all five agents, K = 5", seeds=MORE_SEEDS),
    Arm("sft_longer", "SFT continued for as long", seeds=MORE_SEEDS, longer=True),
    Arm("memory", "with evolving memory", ("memory={}",), seeds=MORE_SEEDS),
    Arm("memory_fixed", "with memory, fixed thresholds", ("memory={thresholds: fixed}",)),
    Arm("k1", "K = 1", ("rl.top_k=1",)),
    Arm("k2", "K = 2", ("rl.top_k=2",)),
    Arm("k_all", "K = all", ("rl.top_k=null",)),
    Arm("master_only", "(a) the master alone learns, the sub-agents stay as SFT left them", ("rl.trained_agents=[master]",)),
    Arm("shared", "(b) one policy for all agents", ("model.paradigm=shared", "model.shared_trains=lora")),
    Arm(
        "fixed_planning",
        "(c) every sub-agent on its own, the planning fixed",
        ("rl.trained_agents=[qa,efc,gfc,math]", "rl.select=agent"),
    ),
    Arm("tree", "naive joint sampling: every node of every branch splits", ("rl.sampling=tree", "rl.branching=3")),
)
BY_NAME = {arm.name: arm for arm in ARMS}
QUESTIONS = (
    Question("learning", "Does it learn?", ("joint", "sft_longer")),
    Question("memory", "What does memory do?", ("joint", "memory", "memory_fixed")),
    Question("top_k", "How many groups should learn?", ("joint", "k1", "k2", "k_all")),
    Question("paradigms", "Who should learn?", ("joint", "master_only", "shared", "fixed_planning")),
    Question("sampling", "Along one trajectory, or the whole tree?", ("joint", "tree")),
)
