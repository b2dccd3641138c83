"""Who acts in an evaluation: models, endpoints, and baselines that need neither."""

from trainer.policies.base import CountsTokens, Policy
from trainer.policies.keyword import KeywordPolicy
from trainer.policies.random_calls import RandomPolicy
from trainer.policies.scripted import ConstantPolicy, CopyPolicy, ExpertPolicy, RefusingPolicy, ReplayPolicy

__all__ = [
    "ConstantPolicy",
    "CopyPolicy",
    "CountsTokens",
    "ExpertPolicy",
    "KeywordPolicy",
    "Policy",
    "RandomPolicy",
    "RefusingPolicy",
    "ReplayPolicy",
]
