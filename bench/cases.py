"""The settings of the loss in which we and the peers are compared: every loss type, then every option."""

from dataclasses import replace

from himakernels.ops.vrgrpo_loss.options import IMPORTANCE, LOSS_TYPES, PolicyOptions

_GRPO = PolicyOptions(clip_low=0.2, clip_high=0.28)


def _of_type(loss_type: str) -> PolicyOptions:
    length = 64 if loss_type == "dr_grpo" else None
    # cispo's clip_high is the cap itself.
    clip_high = 1.1 if loss_type == "cispo" else 0.28
    return replace(_GRPO, loss_type=loss_type, clip_high=clip_high, max_completion_length=length)


def _cases() -> dict[str, PolicyOptions]:
    cases = {loss_type: _of_type(loss_type) for loss_type in LOSS_TYPES}
    # vespo's weight is the sequence's already.
    cases |= {f"{t}-sequence": replace(_of_type(t), ratio_level="sequence") for t in LOSS_TYPES if t != "vespo"}
    cases["delta"] = replace(_GRPO, delta=1.3)
    cases["delta-sequence"] = replace(_GRPO, delta=1.02, ratio_level="sequence")
    cases["kl"] = replace(_GRPO, kl_coef=0.1)
    cases["kl-corrected"] = replace(_GRPO, kl_coef=0.1, kl_ratio_correction=True)
    cases["kl-corrected-sequence"] = replace(cases["kl-corrected"], ratio_level="sequence")
    cases["kl-cispo"] = replace(_of_type("cispo"), kl_coef=0.1)
    cases["kl-corrected-luspo-sequence"] = replace(
        _of_type("luspo"), kl_coef=0.1, kl_ratio_correction=True, ratio_level="sequence"
    )
    cases["entropy"] = replace(_GRPO, entropy_coef=0.1)
    cases["entropy-dapo-kl"] = replace(_of_type("dapo"), entropy_coef=0.1, kl_coef=0.1)
    for mode in IMPORTANCE:
        # Bounds so near to 1 that both are crossed.
        bounded = {"importance": mode, "importance_min": 0.95, "importance_max": 1.05}
        cases[mode] = replace(_GRPO, **bounded)
        cases[f"{mode}-vespo"] = replace(_of_type("vespo"), **bounded)
    cases["token_truncate-sequence"] = replace(
        _GRPO, importance="token_truncate", importance_max=1.05, ratio_level="sequence", kl_coef=0.1
    )
    return cases


CASES = _cases()


def liger_supports(options: PolicyOptions) -> bool:
    """Liger raises on sequence ratios of cispo and sapo, and has neither an entropy bonus nor k1 and k2."""
    sequence = options.ratio_level == "sequence" and options.loss_type in ("cispo", "sapo")
    return not sequence and options.entropy_coef == 0 and options.kl_estimator == "k3"
