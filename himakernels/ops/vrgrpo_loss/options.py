"""The options of the policy loss: one frozen record, checked in one place."""

from dataclasses import dataclass, fields

from himakernels.checks import check_choice, check_non_negative, check_positive

PPO_LOSS_TYPES = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")
LOSS_TYPES = (*PPO_LOSS_TYPES, "cispo", "sapo", "vespo")
RATIO_LEVELS = ("token", "sequence")
KL_ESTIMATORS = ("k1", "k2", "k3")
IMPORTANCE = ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask")


@dataclass(frozen=True, kw_only=True)
class PolicyOptions:
    """What a token's loss is, given its log-probabilities and its advantage. `vrgrpo_loss` documents each field."""

    loss_type: str = "grpo"
    ratio_level: str = "token"
    clip_low: float = 0.2
    clip_high: float = 0.2
    delta: float | None = None
    kl_coef: float = 0.0
    kl_estimator: str = "k3"
    kl_ratio_correction: bool = False
    importance: str | None = None
    importance_min: float | None = None
    importance_max: float | None = 3.0
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
        check_non_negative("clip_low", self.clip_low)
        check_non_negative("clip_high", self.clip_high)
        for name in ("sapo_temperature_pos", "sapo_temperature_neg"):
            check_positive(name, getattr(self, name))
        if self.delta is not None:
            check_positive("delta", self.delta)
            if self.loss_type not in PPO_LOSS_TYPES:
                raise NotImplementedError(
                    f"delta: expected None with loss_type={self.loss_type!r} (two-sided clipping belongs to "
                    f"{', '.join(PPO_LOSS_TYPES)}), got {self.delta!r}"
                )
        if self.loss_type == "vespo" and self.ratio_level == "sequence":
            raise NotImplementedError(
                "ratio_level: expected 'token' with loss_type='vespo' (its weight is the sequence's already), got 'sequence'"
            )
        if (self.max_completion_length is not None) != (self.loss_type == "dr_grpo"):
            want = "a length" if self.loss_type == "dr_grpo" else "None"
            raise ValueError(
                f"max_completion_length: expected {want} with loss_type={self.loss_type!r}, got {self.max_completion_length!r}"
            )
        if self.max_completion_length is not None:
            check_positive("max_completion_length", self.max_completion_length)

    @property
    def needs_whole_samples(self) -> bool:
        """True where a token's coefficient depends on the log-probabilities of its sample's other tokens."""
        sequence_importance = self.importance is not None and self.importance.startswith("sequence")
        return self.ratio_level == "sequence" or self.loss_type == "vespo" or sequence_importance

    def flat(self) -> tuple[list[str], list[float]]:
        """(choices, numbers), as an operator's schema can carry them; None is "" or NaN."""
        values = [getattr(self, f.name) for f in fields(self)]
        choices = [v or "" for f, v in zip(fields(self), values, strict=True) if f.name in _CHOICES]
        numbers = [
            float("nan") if v is None else float(v) for f, v in zip(fields(self), values, strict=True) if f.name not in _CHOICES
        ]
        return choices, numbers

    @staticmethod
    def from_flat(choices: list[str], numbers: list[float]) -> "PolicyOptions":
        """The options that `flat` was called on."""
        c, n = iter(choices), iter(numbers)
        values: dict[str, str | float | None] = {}
        for f in fields(PolicyOptions):
            number = 0.0 if f.name in _CHOICES else next(n)
            values[f.name] = (next(c) or None) if f.name in _CHOICES else (None if number != number else number)
        return PolicyOptions(**values)  # type: ignore[arg-type]


_CHOICES = ("loss_type", "ratio_level", "kl_estimator", "importance")
