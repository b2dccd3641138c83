"""One packed batch of five agents: our loss and gradients beside the fp64 reference, TRL and Liger. `make demo`."""

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from bench import opponents
from bench.batches import PackedBatch, make_batch
from bench.compare import table
from bench.contenders import DTYPES, OPTIONS, Contender
from bench.measure import MIB, Timing, device_name, peak_of, run_json, seconds_of, version
from bench.shapes import Shape
from himakernels import vrgrpo_loss

AGENTS = ("master", "search", "reviews", "orders", "support")
SHAPE = Shape("demo", 800, 256, 16_000, 40)
WARM_UP = Shape("demo-warm-up", 800, 16, 512, 40)
NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16"}


def our_loss(batch: PackedBatch, options: opponents.PolicyOptions) -> torch.Tensor:
    """All agents in one call."""
    return opponents.our_loss(batch, options, agent_id=batch.agent_id, num_agents=len(AGENTS))


def agent_by_agent(loss: opponents.Loss) -> opponents.Loss:
    """The sum of a peer's losses, one call an agent."""

    def total(batch: PackedBatch, options: opponents.PolicyOptions) -> torch.Tensor:
        return torch.stack([loss(batch.of_agent(a), options) for a in range(len(AGENTS))]).sum()

    return total


def _peers() -> dict[str, Contender]:
    chunked, whole = partial(opponents.trl_loss, chunked=True), opponents.trl_loss
    return {
        "himakernels": Contender(our_loss),
        "TRL 1.16, chunked": Contender(agent_by_agent(chunked), "trl", slow=True),
        "TRL 1.16, whole logits": Contender(agent_by_agent(whole), "trl"),
        "Liger 0.8.5, fused linear": Contender(agent_by_agent(opponents.liger_fused_loss), "liger_kernel", slow=True),
    }


def demo_batch(dtype: torch.dtype, shape: Shape = SHAPE) -> PackedBatch:
    """Groups of 8 samples of different lengths; old log-probabilities are off-policy, so some tokens are clipped."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return make_batch(shape, dtype=dtype, device=device, agents=len(AGENTS))


def _step(loss: opponents.Loss, batch: PackedBatch) -> Callable[[], tuple[torch.Tensor, list[torch.Tensor]]]:
    return lambda: opponents.loss_and_grads(loss, batch, OPTIONS)


def _worst_error(grads: list[torch.Tensor], truth: list[torch.Tensor]) -> float:
    """The norm of the error over the norm of the truth, of the worse of dhidden and dweight."""
    return max(((g.double() - t).norm() / t.norm()).item() for g, t in zip(grads, truth, strict=True))


def measure(name: str, dtype: torch.dtype, target: str) -> None:
    """In a process of its own: one contender's loss, gradients, time and peak memory, saved to `target`."""
    peer = _peers()[name]
    run, warm = _step(peer.loss, demo_batch(dtype)), _step(peer.loss, demo_batch(dtype, WARM_UP))
    results: list[tuple[torch.Tensor, list[torch.Tensor]]] = []
    seconds: list[float] = []

    def timed() -> None:
        seconds.append(seconds_of(lambda: results.append(run())))

    peak = peak_of(timed, warm)
    for _ in range(0 if peer.slow else 3):
        results.clear()
        timed()
    loss, grads = results[-1]
    torch.save({"loss": loss, "grads": grads}, target)
    print(json.dumps({"peak": peak, "seconds": Timing.of(seconds).median}))


def show(dtype: torch.dtype) -> None:
    """The table of one dtype."""
    batch = demo_batch(dtype)
    truth, truth_grads = opponents.loss_and_grads(agent_by_agent(opponents.eager_loss), batch.to(torch.float64), OPTIONS)
    rows = [[NAMES[dtype], "loss", "gradient error", "time", "peak memory"]]
    rows.append(["fp64 reference", f"{truth.item():.7f}", "", "", ""])
    for name, peer in _peers().items():
        if not peer.installed:
            rows.append([name, "not installed", "", "", ""])
            continue
        with tempfile.TemporaryDirectory() as folder:
            target = str(Path(folder, "result.pt"))
            cost = run_json("bench.demo", "--measure", name, "--dtype", str(dtype).removeprefix("torch."), "--into", target)
            result = torch.load(target)
        error = f"{_worst_error(result['grads'], truth_grads):.1e}"
        time, peak = f"{cost['seconds'] * 1e3:,.0f} ms", f"{cost['peak'] / MIB:,.0f} MiB"
        rows.append([name, f"{result['loss'].item():.7f}", error, time, peak])
    print(table(rows), end="\n\n", flush=True)


def show_metrics() -> None:
    """What the one call says of each agent."""
    batch = demo_batch(torch.float32)
    result = vrgrpo_loss(
        batch.hidden,
        batch.weight,
        batch.labels,
        sample_id=batch.sample_id,
        rewards=batch.rewards,
        group_id=batch.group_id,
        agent_id=batch.agent_id,
        num_agents=len(AGENTS),
        old_logprobs=batch.old_logprobs,
        clip_low=OPTIONS.clip_low,
        clip_high=OPTIONS.clip_high,
    )
    metrics = result.metrics
    rows = [["agent", "samples", "tokens", "with gradient", "clipped low", "clipped high", "ratio", "approx. KL", "entropy"]]
    for a, agent in enumerate(AGENTS):
        rows.append(
            [
                agent,
                f"{metrics.num_samples[a].item():.0f}",
                f"{metrics.num_tokens[a].item():.0f}",
                f"{metrics.active_rows[a].item():.0f}",
                f"{metrics.clip_frac_low[a].item():.1%}",
                f"{metrics.clip_frac_high[a].item():.1%}",
                f"{metrics.ratio_min[a].item():.2f} to {metrics.ratio_max[a].item():.2f}",
                f"{metrics.approx_kl[a].item():.4f}",
                f"{metrics.entropy[a].item():.2f}",
            ]
        )
    print("Per agent, from the same call given rewards instead of advantages")
    print("(groups whose rewards are all equal teach nothing and are left out):")
    print(table(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", help="measure one contender, in a process of its own")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--into", help="where --measure saves loss and gradients")
    args = parser.parse_args()
    if args.measure:
        measure(args.measure, DTYPES[args.dtype], args.into)
        return
    print(f"{device_name()}, {torch.get_num_threads()} threads, torch {version('torch')}")
    print(
        f"{SHAPE.rows:,} tokens of {SHAPE.samples} samples in groups of 8, {len(AGENTS)} agents; hidden size {SHAPE.hidden}, "
        f"vocabulary {SHAPE.vocab:,}; grpo loss, forward + backward.\n"
        "We take all agents in one call. The peers know no agents: they are called once an agent, results summed.\n"
        "Everyone runs in a process of its own.\n"
        "Gradient error: norm of the error over norm of the gradient, against fp64 on the same inputs.\n"
        "Peak memory: beside the inputs, gradients included.\n"
    )
    for dtype in (torch.float32, torch.bfloat16):
        show(dtype)
    show_metrics()


if __name__ == "__main__":
    main()
