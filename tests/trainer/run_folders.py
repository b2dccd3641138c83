"""A run's folder made by hand: curves that rise, agents that learn at different times, evaluations, episodes."""

import json
import math
import random
from pathlib import Path
from typing import Any

AGENTS = ("master", "qa", "efc", "gfc", "math")
COLUMNS = ("cooperation", "qa", "efc", "gfc", "math")


def write_run(folder: Path, *, steps: int = 60, memory: bool = True, seed: int = 0, gain: float = 0.5) -> Path:
    """`steps` of RL after 20 updates of SFT; tested before, in the middle and after."""
    rng = random.Random(seed)
    folder.mkdir(parents=True)
    lines: list[dict[str, Any]] = [
        {"kind": "sft", "step": i, "time": 0.5 * i + 1, "learner/loss": 5 * math.exp(-i / 6) + 0.3} for i in range(20)
    ]
    write_eval(folder, "sft", 0.4, rng)
    lines.append(eval_line(0, "sft", 40.0))
    for step in range(1, steps + 1):
        lines.append(train_line(step, steps, rng, memory=memory, gain=gain))
    lines.append(eval_line(steps // 2, f"step-{steps // 2}", 45.0))
    write_eval(folder, f"step-{steps // 2}", 0.45, rng)
    lines.append(eval_line(steps, "final", 58.0))
    write_eval(folder, "final", 0.58, rng)
    write_lines(folder / "metrics.jsonl", lines)
    write_lines(folder / "samples.jsonl", [episode(1, "t0", 0.2), episode(2, "t1", 1.0), episode(steps, "t0", 1.9)])
    (folder / "config.yaml").write_text(
        f"output_dir: {folder}\nseed: {seed}\nqueries_per_step: 8\nmax_steps: {steps}\nmodel: {{name: tiny, paradigm: lora}}\n"
        f"rl: {{group_size: 8, top_k: 5}}\nmemory: {'{m: 3}' if memory else 'null'}\n"
    )
    (folder / "final" / "policies").mkdir(parents=True)
    return folder


def train_line(step: int, steps: int, rng: random.Random, *, memory: bool, gain: float) -> dict[str, Any]:
    rise = 1 - math.exp(-3 * step / steps)
    accuracy = 0.4 + gain * rise + rng.gauss(0, 0.06)
    line: dict[str, Any] = {
        "kind": "train", "step": step, "time": 12 + 1.9 * step, "rollout/reward": accuracy + 0.9, "rollout/accuracy": accuracy,
        "rollout/malformed": 0.1 * (1 - rise), "rollout/calls": 4 - rise, "rollout/sampled_tokens": 9000.0,
        "rollout/failed": 0.0, "learner/original_tokens": 40000, "learner/packed_tokens": 11000 + 500 * rng.random(),
        "learner/skipped": 0.0, "tokens_saved": 0.72, "engine/prompt_tokens": 50000.0, "engine/cached_tokens": 46000.0,
        "engine/hit_rate": 0.92, "seconds/step": 1.9, "seconds/rollout": 1.2 + 0.1 * rng.random(), "seconds/select": 0.01,
        "seconds/update": 0.5, "seconds/memory": 0.05,
    }  # fmt: skip
    for i, agent in enumerate(AGENTS):
        busy = rng.random() < (0.95, 0.7, 0.5, 0.05, 0.3)[i] * (1.3 - rise)
        line[f"variance/{agent}"] = (0.5 - 0.08 * i) * (1.2 - rise) * (0.8 + 0.4 * rng.random())
        line[f"selected/{agent}"] = float(rng.randint(1, 12 - 2 * i) if busy else 0)
        line[f"updated/{agent}"] = float(busy)
        if memory:
            line[f"memory/{agent}/entries"] = float(round(step * (1 + i) * 0.6))
    return line


def eval_line(step: int, name: str, solved: float) -> dict[str, Any]:
    scalars = {"avg/solved": solved, "avg/low": solved - 6, "avg/high": solved + 6, "avg/accuracy": solved / 100}
    return {"kind": "eval", "step": step, "time": 11.0 + 2 * step, "name": name, "split": "test", **scalars}


def write_eval(folder: Path, name: str, share: float, rng: random.Random, count: int = 40) -> None:
    """Each episode is harder or easier for all policies, so that evaluations pair."""
    found, episodes = [], []
    for column in COLUMNS:
        hard = random.Random(column)
        solved = [hard.random() * 0.8 + rng.random() * 0.2 < share for _ in range(count)]
        episodes += [{"id": f"{column}-{i}", "column": column, "accuracy": float(one)} for i, one in enumerate(solved)]
        part = 100 * sum(solved) / count
        found.append({"name": column, "episodes": count, "solved": part, "low": max(0, part - 15), "high": min(100, part + 15)})
    mean = sum(column["solved"] for column in found) / len(found)
    report = {"policy": name, "columns": found, "episodes": episodes}
    report["average"] = {"name": "Avg", "episodes": len(episodes), "solved": mean, "low": mean - 6, "high": mean + 6}
    (folder / "eval").mkdir(exist_ok=True)
    (folder / "eval" / f"{name}.json").write_text(json.dumps(report))


def episode(step: int, task: str, reward: float, text: str = "Where is my order O00001?") -> dict[str, Any]:
    turns = [
        {"agent": "master", "text": 'Thought: It can.\nAction: efc\nAction Input: {"task": "Find it."}', "observation": None},
        {"agent": "efc", "text": 'Action: get_order\nAction Input: {"id": "O00001"}', "observation": '{"status":"shipped"}'},
        {"agent": "efc", "text": "Final Answer: It has shipped.", "observation": None},
        {"agent": "master", "text": "Final Answer: Your order has shipped.", "observation": None},
    ]
    return {"step": step, "task_id": task, "query": text, "expected": "It has shipped.", "reward": reward, "turns": turns}


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
