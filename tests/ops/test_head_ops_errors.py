"""Each error message of the ops on an LM head; torch.compile and opcheck."""

import dataclasses
import inspect
from typing import Any

import pytest
import torch

import himakernels as hk
from himakernels.ops.token_cross_entropy import op as cross_entropy_op
from himakernels.ops.token_logprobs import op as logprobs_op
from himakernels.ops.vrgrpo_loss import op as loss_op
from himakernels.ops.vrgrpo_loss.arguments import LossArguments
from himakernels.testing import INTERPRET, policy_batch

B = policy_batch(rows=6, samples=4)
META = torch.empty(6, device="meta")
R1, S1 = torch.zeros(5), torch.zeros(3)


def call(**changes: Any) -> Any:
    values = {"hidden": B.hidden, "weight": B.weight, "labels": B.labels, "sample_id": B.sample_id, "advantages": B.advantages}
    values |= changes
    first = [values.pop(name) for name in ("hidden", "weight", "labels")]
    return hk.vrgrpo_loss(*first, **values)


REWARDS = {"advantages": None, "rewards": B.rewards, "group_id": B.group_id}
IMPORTANCE = {"importance": "token_mask", "rollout_logprobs": B.rollout_logprobs}
VESPO = ("k_pos", "lambda_pos", "k_neg", "lambda_neg")
ERRORS: list[tuple[type[Exception], str, dict[str, Any]]] = [
    # Shapes, dtypes, devices.
    (ValueError, r"hidden: expected shape \[R, H\], got \[6\]", {"hidden": torch.zeros(6)}),
    (TypeError, "hidden: expected a torch.Tensor, got list", {"hidden": [1.0]}),
    (TypeError, "hidden: expected dtype float32 or bfloat16 or float16 or float64, got int64", {"hidden": B.hidden.long()}),
    (ValueError, r"weight: expected shape \[V, 12\], got \[53, 11\]", {"weight": torch.zeros(53, 11)}),
    (TypeError, "weight: expected dtype float32, got bfloat16", {"weight": B.weight.bfloat16()}),
    (ValueError, "weight: expected device cpu, got meta", {"weight": B.weight.to("meta")}),
    (ValueError, "expected a vocabulary of at least one token, got 0", {"weight": torch.zeros(0, 12)}),
    (ValueError, r"bias: expected shape \[53\], got \[52\]", {"bias": torch.zeros(52)}),
    (TypeError, "bias: expected dtype float32, got float64", {"bias": torch.zeros(53, dtype=torch.float64)}),
    (ValueError, r"labels: expected shape \[6\], got \[5\]", {"labels": B.labels[:5]}),
    (TypeError, "labels: expected dtype int64 or int32, got float32", {"labels": R1.new_zeros(6)}),
    (ValueError, "labels: expected device cpu, got meta", {"labels": META.long()}),
    (ValueError, r"sample_id: expected shape \[6\], got \[5\]", {"sample_id": B.sample_id[:5]}),
    (TypeError, "sample_id: expected dtype int64 or int32, got bool", {"sample_id": B.sample_id.bool()}),
    (ValueError, r"advantages: expected shape \[S\], got \[6, 1\]", {"advantages": torch.zeros(6, 1)}),
    (ValueError, r"advantages: expected shape \[6\], got \[4\]", {"advantage_level": "token"}),
    (TypeError, "advantages: expected dtype float32 .* got int64", {"advantages": torch.ones(4, dtype=torch.int64)}),
    (ValueError, r"agent_id: expected shape \[4\], got \[3\]", {"agent_id": S1.long()}),
    (ValueError, r"group_id: expected shape \[4\], got \[3\]", {**REWARDS, "group_id": S1.long()}),
    (ValueError, r"old_logprobs: expected shape \[6\], got \[5\]", {"old_logprobs": R1}),
    (ValueError, "old_logprobs: expected device cpu, got meta", {"old_logprobs": META}),
    (TypeError, "ref_logprobs: expected dtype", {"ref_logprobs": B.labels}),
    (TypeError, "rollout_logprobs: expected a torch.Tensor, got float", {"rollout_logprobs": 1.0, "importance": "token_mask"}),
    (ValueError, r"num_samples: expected shape \[3\]", {"agent_id": B.agent_id, "num_agents": 3, "num_samples": torch.ones(2)}),
    (ValueError, r"num_tokens: expected shape \[\], got \[2\]", {"num_tokens": torch.ones(2)}),
    (ValueError, "num_tokens: expected device cpu, got meta", {"num_tokens": torch.ones((), device="meta")}),
    # Choices and numbers.
    (ValueError, "loss_type: expected one of 'grpo', .*, got 'ppo'", {"loss_type": "ppo"}),
    (ValueError, "ratio_level: expected one of 'token', 'sequence', got 'row'", {"ratio_level": "row"}),
    (ValueError, "kl_estimator: expected one of 'k1', 'k2', 'k3', got 'k4'", {"kl_estimator": "k4"}),
    (ValueError, "importance: expected one of None, 'token_truncate', .*, got 'mask'", {"importance": "mask"}),
    (ValueError, "advantage_level: expected one of 'sample', 'token', got 'group'", {"advantage_level": "group"}),
    (ValueError, "normalize: expected one of .* got 'rank'", {**REWARDS, "normalize": "rank"}),
    (ValueError, "clip_low: expected a finite number >= 0, got -0.1", {"clip_low": -0.1}),
    (ValueError, "clip_high: expected a finite number >= 0, got inf", {"clip_high": float("inf")}),
    (ValueError, "delta: expected a finite number > 0, got 0", {"delta": 0}),
    (ValueError, "kl_coef: expected a number, got nan", {"kl_coef": float("nan")}),
    (TypeError, "kl_coef: expected a number, got Tensor", {"kl_coef": torch.ones(())}),
    (ValueError, "entropy_coef: expected a finite number, got inf", {"entropy_coef": float("inf")}),
    (ValueError, "temperature: expected a finite number > 0, got 0", {"temperature": 0}),
    (TypeError, "temperature: expected a number, got NoneType", {"temperature": None}),
    (ValueError, "softcap: expected a finite number > 0, got -1", {"softcap": -1}),
    (ValueError, "sapo_temperature_neg: expected a finite .* > 0, got 0", {"loss_type": "sapo", "sapo_temperature_neg": 0}),
    (ValueError, "importance_max: expected a number > 0, got -2", {**IMPORTANCE, "importance_max": -2}),
    (ValueError, "importance_max: expected a number, got nan", {**IMPORTANCE, "importance_max": float("nan")}),
    (ValueError, "importance_min: expected a number <= importance_max=3.0, got 4", {**IMPORTANCE, "importance_min": 4}),
    (ValueError, "num_tokens: expected a finite number > 0, got 0", {"num_tokens": 0}),
    (ValueError, "grad_scale: expected a finite number > 0, got -1", {"grad_scale": -1}),
    (ValueError, r"grad_scale: expected shape \[\], got \[1\]", {"grad_scale": torch.ones(1)}),
    (ValueError, "grad_scale: expected device cpu, got meta", {"grad_scale": torch.ones((), device="meta")}),
    (ValueError, "top_k: ", {**REWARDS, "top_k": -1}),
    # Arguments that need, or exclude, each other.
    (ValueError, "advantages, rewards: expected exactly one of them, got neither", {"advantages": None}),
    (ValueError, "advantages, rewards: expected exactly one of them, got both", {"rewards": B.rewards}),
    (ValueError, "group_id: expected a tensor", {"advantages": None, "rewards": B.rewards}),
    (ValueError, "group_id: expected None without rewards", {"group_id": B.group_id}),
    (ValueError, "num_groups: expected None without rewards, got 2", {"num_groups": 2}),
    (ValueError, "top_k: expected None without rewards", {"top_k": 2}),
    (ValueError, "num_samples, num_tokens: expected None with top_k", {**REWARDS, "top_k": 1, "num_tokens": 5}),
    (ValueError, "advantage_level: expected 'sample' with rewards, got 'token'", {**REWARDS, "advantage_level": "token"}),
    (ValueError, "ref_logprobs: expected a tensor .* with kl_coef=0.1, got None", {"kl_coef": 0.1}),
    (ValueError, "rollout_logprobs: expected a tensor .* with importance='token_mask', got None", {"importance": "token_mask"}),
    (ValueError, "rollout_logprobs: expected None with .* got a tensor", {"rollout_logprobs": B.rollout_logprobs}),
    (ValueError, "num_agents: expected None without agent_id, got 2", {"num_agents": 2}),
    (ValueError, "clip_high: expected the cap itself with loss_type='cispo'", {"loss_type": "cispo"}),
    (ValueError, "max_completion_length: expected a length with loss_type='dr_grpo', got None", {"loss_type": "dr_grpo"}),
    # Options that a loss type does not have, or that another option leaves without effect.
    (NotImplementedError, "max_completion_length: expected None with loss_type='grpo' .*got 9", {"max_completion_length": 9}),
    (NotImplementedError, "delta: expected None with loss_type='sapo' .*got 2.0", {"loss_type": "sapo", "delta": 2.0}),
    (NotImplementedError, "clip_low: expected None with loss_type='cispo' .*got 0.2", {"loss_type": "cispo", "clip_low": 0.2}),
    (NotImplementedError, "clip_high: expected None with loss_type='sapo' .*got 0", {"loss_type": "sapo", "clip_high": 0}),
    (NotImplementedError, "clip_low: expected None with loss_type='vespo' .*got 0.1", {"loss_type": "vespo", "clip_low": 0.1}),
    *(
        (NotImplementedError, rf"{name}: expected None with loss_type='grpo' \(it belongs to {owner}\), got 1.0", {name: 1.0})
        for owner, names in {"sapo": ("temperature_pos", "temperature_neg"), "vespo": VESPO}.items()
        for name in (f"{owner}_{n}" for n in names)
    ),
    (ValueError, "importance_min: expected None without importance, got 0.5", {"importance_min": 0.5}),
    (ValueError, "importance_max: expected None without importance, got 3.0", {"importance_max": 3.0}),
    (ValueError, "kl_estimator: expected None without ref_logprobs, got 'k3'", {"kl_estimator": "k3"}),
    (ValueError, "kl_ratio_correction: expected False with kl_coef=0, got True", {"kl_ratio_correction": True}),
    (ValueError, "normalize: expected None without rewards, got 'std'", {"normalize": "std"}),
    (ValueError, "eps: expected None without rewards, got 0.0001", {"eps": 1e-4}),
    (ValueError, "eps: expected None with normalize='mean', .* got 0.1", {**REWARDS, "normalize": "mean", "eps": 0.1}),
    (NotImplementedError, "ratio_level: expected 'token'", {"loss_type": "vespo", "ratio_level": "sequence"}),
]


@pytest.mark.parametrize(("error", "match", "changes"), ERRORS)
def test_bad_arguments_of_the_loss(error: type[Exception], match: str, changes: dict[str, Any]) -> None:
    with pytest.raises(error, match=match):
        call(**changes)
    if not {"hidden", "weight", "bias"} & set(changes):
        labels = changes.get("labels", B.labels)
        rest = {"sample_id": B.sample_id, "advantages": B.advantages, **{k: v for k, v in changes.items() if k != "labels"}}
        with pytest.raises(error, match=match):
            hk.vrgrpo_loss_from_logits(B.logits, labels, **rest)


VALUES: list[tuple[str, dict[str, Any]]] = [
    (
        r"labels: expected values in \[0, 53\) or -100, got 53 at index 2",
        {"labels": B.labels.index_fill(0, torch.tensor(2), 53)},
    ),
    (r"labels: .* got -1 at index 0", {"labels": B.labels.index_fill(0, torch.tensor(0), -1)}),
    (r"sample_id: expected values in \[0, 4\), got 4 at index 1", {"sample_id": B.sample_id.index_fill(0, torch.tensor(1), 4)}),
    (r"sample_id: .* got -1 at index 5", {"sample_id": B.sample_id.index_fill(0, torch.tensor(5), -1)}),
    (r"agent_id: expected values in \[0, 2\), got 2 at index 3", {"agent_id": torch.tensor([0, 1, 1, 2]), "num_agents": 2}),
    (
        r"group_id: expected values in \[0, 4\), got 4",
        {**REWARDS, "group_id": torch.zeros(4, dtype=torch.int64).index_fill(0, B.sample_id[:1], 4)},
    ),
]


@pytest.mark.parametrize(("match", "changes"), VALUES)
def test_values_out_of_range(match: str, changes: dict[str, Any]) -> None:
    """Checked on the CPU. On a GPU nobody reads them on the host, and the loss is NaN."""
    if INTERPRET and "rewards" in changes:  # group_advantages takes its Triton route as on a GPU
        assert bool(call(**changes).loss.isnan())
        return
    with pytest.raises(ValueError, match=match):
        call(**changes)
    if torch.cuda.is_available():
        moved = {k: v.cuda() if isinstance(v, torch.Tensor) else v for k, v in changes.items()}
        b = {k: getattr(B, k).cuda() for k in ("hidden", "weight", "labels", "sample_id", "advantages")}
        assert bool(call(**{**b, **moved}).loss.isnan())


@pytest.mark.once
@pytest.mark.parametrize(("match", "changes"), VALUES[:4])
def test_values_out_of_range_inside_a_compiled_function(match: str, changes: dict[str, Any]) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(lambda **x: call(**x).loss, fullgraph=True, backend="aot_eager")
    with pytest.raises(ValueError, match=match):
        compiled(**changes)


def test_bad_arguments_of_the_other_ops() -> None:
    for op in (hk.token_logprobs, hk.token_cross_entropy):
        with pytest.raises(ValueError, match=r"labels: expected shape \[6\], got \[5\]"):
            op(B.hidden, B.weight, B.labels[:5])
        with pytest.raises(TypeError, match="weight: expected dtype float32, got float16"):
            op(B.hidden, B.weight.half(), B.labels)
        with pytest.raises(ValueError, match=r"labels: expected values in \[0, 53\) or -100, got 77"):
            op(B.hidden, B.weight, B.labels.index_fill(0, torch.tensor(0), 77))
        with pytest.raises(TypeError, match="positional"):
            op(B.hidden, B.weight, B.labels, B.bias)
    with pytest.raises(ValueError, match="num_tokens: expected a finite number > 0, got -3"):
        hk.token_cross_entropy(B.hidden, B.weight, B.labels, num_tokens=-3)
    wide = torch.zeros(6, 106)[:, ::2]
    with pytest.raises(ValueError, match="logits: expected stride 1 along the vocabulary, got strides"):
        hk.token_logprobs_from_logits(wide, B.labels)
    with pytest.raises(ValueError, match=r"labels: expected values in \[0, 53\) or -100, got -7"):
        hk.token_logprobs_from_logits(B.logits, B.labels.index_fill(0, torch.tensor(3), -7))
    common = {"sample_id": B.sample_id, "advantages": B.advantages}
    with pytest.raises(ValueError, match="expected stride 1 along the vocabulary"):
        hk.vrgrpo_loss_from_logits(wide, B.labels, **common)
    with pytest.raises(ValueError, match="rows that do not overlap with inplace=True"):
        hk.vrgrpo_loss_from_logits(torch.zeros(1, 53).expand(6, 53), B.labels, inplace=True, **common)


# ------------------------------------------------------------------------------------------------- compile, opcheck


COMPILED = [
    {"advantages": B.advantages, "old_logprobs": B.old_logprobs},
    {"advantages": B.advantages, "ratio_level": "sequence", "agent_id": B.agent_id, "num_agents": 3},
    {"rewards": B.rewards, "group_id": B.group_id, "top_k": 1, "kl_coef": 0.1, "ref_logprobs": B.ref_logprobs},
]


@pytest.mark.once
@pytest.mark.parametrize("form", ["linear", "logits", "inplace"])
@pytest.mark.parametrize("options", COMPILED)
def test_compile(options: dict[str, Any], form: str, device: torch.device) -> None:
    """One graph, forward and backward, the same bits as eager; a function around the loss that scales it."""
    torch._dynamo.reset()
    moved = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in options.items()}
    labels, sample_id = B.labels.to(device), B.sample_id.to(device)

    def step(hidden: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if form == "linear":
            out = hk.vrgrpo_loss(hidden * 1.0, weight, labels, sample_id=sample_id, **moved)
        else:
            logits = hidden @ weight.T
            out = hk.vrgrpo_loss_from_logits(logits, labels, sample_id=sample_id, inplace=form == "inplace", **moved)
        return out.loss * 0.5, out.metrics.ratio_max

    results = []
    for run in (step, torch.compile(step, fullgraph=True, backend="aot_eager")):
        leaves = [t.to(device, copy=True).requires_grad_() for t in (B.hidden, B.weight)]
        loss, metric = run(*leaves)
        loss.backward()
        results.append([loss.detach(), metric, *(t.grad for t in leaves)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.once
def test_compile_of_logprobs_and_cross_entropy(device: torch.device) -> None:
    torch._dynamo.reset()
    labels = B.labels.to(device)

    def step(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        out = hk.token_logprobs(hidden, weight, labels, return_entropy=True)
        direct = hk.token_logprobs_from_logits(hidden @ weight.T, labels).logprobs
        return (out.logprobs * out.entropy).sum() + direct.sum() + 2 * hk.token_cross_entropy(hidden, weight, labels).loss

    results = []
    for run in (step, torch.compile(step, fullgraph=True, backend="aot_eager")):
        leaves = [t.to(device, copy=True).requires_grad_() for t in (B.hidden, B.weight)]
        loss = run(*leaves)
        loss.backward()
        results.append([loss.detach(), *(t.grad for t in leaves)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def inputs(device: torch.device, **options: Any) -> list[Any]:
    """The shared arguments of the loss's operators, as the public function makes them."""
    from himakernels.ops.vrgrpo_loss.options import PolicyOptions

    choices, numbers = PolicyOptions(**options).flat()
    tensors = [t.to(device) for t in (B.labels, B.sample_id, B.advantages)]
    policies = [B.agent_id.to(device), B.old_logprobs.to(device), *[None] * 4]
    grad_scale = torch.tensor(8.0, device=device)
    return [*tensors, None, *policies, grad_scale, 3, False, choices, numbers, 1.0, 0.0]


@pytest.mark.once
def test_opcheck(device: torch.device) -> None:
    h, w, bias, y, x = (t.to(device) for t in (B.hidden, B.weight, B.bias, B.labels, B.logits))
    checks = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    stats = [torch.zeros(6, device=device) for _ in range(5)]
    cases = [
        (logprobs_op._op, (h, w, bias, y, 1.0, 0.0)),
        (logprobs_op._op_bwd, (*stats[:2], h, w, bias, y, *stats[2:], 1.0, 0.0, [True, False, True])),
        (logprobs_op._op_logits, (x, y, 1.0, 5.0)),
        (logprobs_op._op_logits_bwd, (*stats[:2], x, y, *stats[2:], 1.0, 5.0)),
        (cross_entropy_op._op, (h, w, None, y, None, None, 1.0, 0.0, [True, True, False])),
        (loss_op._linear_op, (h, w, bias, *inputs(device), [True, True, True])),
        (loss_op._linear_op, (h, w, None, *inputs(device, ratio_level="sequence"), [False, False, False])),
        (loss_op._logits_op, (x, *inputs(device), True)),
        (loss_op._logits_inplace_op, (x.clone(), *inputs(device))),
        (torch.ops.himakernels.scale_grad_.default, (h.clone(), torch.tensor(2.0, device=device))),
    ]
    for op, arguments in cases:
        torch.library.opcheck(op, arguments, test_utils=checks)


def test_the_two_signatures_are_one() -> None:
    """The keywords of both forms of the loss: the same names, types and defaults, and those of the record behind them."""
    linear, logits = (inspect.signature(f).parameters for f in (hk.vrgrpo_loss, hk.vrgrpo_loss_from_logits))
    shared = {name: p for name, p in linear.items() if name not in ("hidden", "weight", "bias")}
    assert shared == {name: p for name, p in logits.items() if name not in ("logits", "inplace")}
    assert set(shared) == {f.name for f in dataclasses.fields(LossArguments)}
    # What is not given comes from the options' own defaults; where a default stands in both places, it is the same.
    for field in dataclasses.fields(hk.PolicyOptions):
        assert shared[field.name].default in (None, field.default), field.name
