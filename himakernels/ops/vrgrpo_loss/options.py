"""The options of the policy loss: one frozen record, checked in one place."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from himakernels.checks import check_choice, check_finite, check_non_negative, check_number, check_positive

PPO_LOSS_TYPES = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")
LOSS_TYPES = (*PPO_LOSS_TYPES, "cispo", "sapo", "vespo")
RATIO_LEVELS = ("token", "sequence")
KL_ESTIMATORS = ("k1", "k2", "k3")
IMPORTANCE = ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask")
# The options that only some loss types have.
_OWNERS: dict[str, tuple[str, ...]] = {
    "clip_low": PPO_LOSS_TYPES,
    "clip_high": (*PPO_LOSS_TYPES, "cispo"),
    "delta": PPO_LOSS_TYPES,
    "max_completion_length": ("dr_grpo",),
    **dict.fromkeys(("sapo_temperature_pos", "sapo_temperature_neg"), ("sapo",)),
    **dict.fromkeys(("vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg"), ("vespo",)),
}


@dataclass(frozen=True, kw_only=True)
class PolicyOptions:
    """What a token's loss is, given its log-probabilities and its advantage. `vrgrpo_loss` documents each field.

    Complete: an option that the loss type does not have holds a value that nobody reads. `of` is strict about those.
    """

    loss_type: str = "grpo"
    ratio_level: str = "token"
    clip_low: float = 0.2
    clip_high: float = 0.2
    delta: float | None = None
    kl_coef: float = 0.0
    kl_estimator: str = "k3"
    kl_ratio_correction: bool = False
    importance: str | None = None
    importance_min: float = 0.0
    importance_max: float = 3.0
    entropy_coef: float = 0.0
    max_completion_length: int | None = None
    sapo_temperature_pos: float = 1.0
    sapo_temperature_neg: float = 1.05
    vespo_k_pos: float = 2.0
    vespo_lambda_pos: float = 3.0
    vespo_k_neg: float = 3.0
    vespo_lambda_neg: float = 2.0

    def __post_init__(self) -> None:
        check_choice("loss_type", self.loss_type, LOSS_TYPES)
        check_choice("ratio_level", self.ratio_level, RATIO_LEVELS)
        check_choice("kl_estimator", self.kl_estimator, KL_ESTIMATORS)
        check_choice("importance", self.importance, (None, *IMPORTANCE))
        check_choice("kl_ratio_correction", self.kl_ratio_correction, (False, True))
        check_non_negative("clip_low", self.clip_low)
        check_non_negative("clip_high", self.clip_high)
        for name in ("sapo_temperature_pos", "sapo_temperature_neg"):
            check_positive(name, getattr(self, name))
        for name in ("kl_coef", "entropy_coef", "vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg"):
            check_finite(name, getattr(self, name))
        check_non_negative("importance_min", self.importance_min)
        check_number("importance_max", self.importance_max)  # infinity: no bound
        if self.importance_max <= 0:
            raise ValueError(f"importance_max: expected a number > 0, got {self.importance_max!r}")
        if self.importance_min > self.importance_max:
            raise ValueError(
                f"importance_min: expected a number <= importance_max={self.importance_max!r}, got {self.importance_min!r}"
            )
        if self.delta is not None:
            check_positive("delta", self.delta)
        if self.loss_type == "vespo" and self.ratio_level == "sequence":
            raise NotImplementedError(
                "ratio_level: expected 'token' with loss_type='vespo' (its weight is the sequence's already), got 'sequence'"
            )
        if self.max_completion_length is not None:
            check_positive("max_completion_length", self.max_completion_length)
            if self.max_completion_length != int(self.max_completion_length):
                raise ValueError(f"max_completion_length: expected a whole number, got {self.max_completion_length!r}")
        elif self.loss_type == "dr_grpo":
            raise ValueError("max_completion_length: expected a length with loss_type='dr_grpo', got None")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "PolicyOptions":
        """The options that a caller asks for; None is "not given", and takes the default above (clip_high: clip_low's value).

        Raises NotImplementedError for an option that the loss type does not have, ValueError for one that another option
        leaves without effect.
        """
        values = {name: value for name, value in given.items() if value is not None}
        loss_type = values.get("loss_type", cls.loss_type)
        check_choice("loss_type", loss_type, LOSS_TYPES)
        for name, owners in _OWNERS.items():
            if name in values and loss_type not in owners:
                raise NotImplementedError(
                    f"{name}: expected None with loss_type={loss_type!r} (it belongs to {', '.join(owners)}), "
                    f"got {values[name]!r}"
                )
        for name in ("importance_min", "importance_max"):
            if name in values and "importance" not in values:
                raise ValueError(f"{name}: expected None without importance, got {values[name]!r}")
        if values.get("kl_ratio_correction") and values.get("kl_coef", cls.kl_coef) == 0:
            raise ValueError("kl_ratio_correction: expected False with kl_coef=0, got True")
        if "clip_high" not in values and loss_type == "cispo":
            raise ValueError("clip_high: expected the cap itself with loss_type='cispo' (TRL: epsilon_high), got None")
        if "clip_high" not in values and "clip_low" in values:
            values["clip_high"] = values["clip_low"]
        return cls(**values)

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `vrgrpo_loss` that stand for these options: those that mean something beside the others."""
        unused = {name for name, owners in _OWNERS.items() if self.loss_type not in owners}
        if self.importance is None:
            unused |= {"importance_min", "importance_max"}
        if self.kl_coef == 0:
            unused |= {"kl_estimator", "kl_ratio_correction"}
        return {name: value for name, value in asdict(self).items() if name not in unused}

    @property
    def needs_whole_samples(self) -> bool:
        """True where a token's coefficient depends on the log-probabilities of its sample's other tokens."""
        sequence_importance = self.importance is not None and self.importance.startswith("sequence")
        return self.ratio_level == "sequence" or self.loss_type == "vespo" or sequence_importance

    def flat(self) -> tuple[list[str], list[float]]:
        """(choices, numbers), as an operator's schema can carry them; None is "" or NaN."""
        choices = [getattr(self, name) or "" for name in OPTION_NAMES if name in _CHOICES]
        values = [getattr(self, name) for name in OPTION_NAMES if name not in _CHOICES]
        return choices, [float("nan") if v is None else float(v) for v in values]

    @staticmethod
    def from_flat(choices: list[str], numbers: list[float]) -> "PolicyOptions":
        """The options that `flat` was called on."""
        c, n = iter(choices), iter(numbers)
        values: dict[str, str | float | None] = {}
        for name in OPTION_NAMES:
            number = 0.0 if name in _CHOICES else next(n)
            values[name] = (next(c) or None) if name in _CHOICES else (None if number != number else number)
        return PolicyOptions(**values)  # type: ignore[arg-type]


_CHOICES = ("loss_type", "ratio_level", "kl_estimator", "importance")
OPTION_NAMES = tuple(f.name for f in fields(PolicyOptions))
