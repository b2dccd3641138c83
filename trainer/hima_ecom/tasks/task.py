"""A task of the benchmark: query, checker, and the expert's solution."""

from dataclasses import asdict, dataclass
from typing import Any

COLUMNS = ("cooperation", "qa", "efc", "gfc", "math")  # the columns of the paper's table
SPLITS = ("sft", "train", "test")  # demonstrations of experts, (query, answer) pairs for RL, and the test set
LANGUAGES = ("en", "zh")


@dataclass(frozen=True, kw_only=True)
class Task:
    """One (query, final response) pair with its checker.

    Example: Task(id="test-efc-00001", column="efc", split="test", language="en", difficulty=1, family="order_total",
    query="What did order O00012 cost?", final_response="The total of order O00012 is 12.50 USD.",
    checker={"kind": "number", "value": "12.50", "unit": "USD"}, minimal_calls=2, customer_id="C0003", trajectory=(...))
    """

    id: str
    column: str  # one of COLUMNS
    split: str  # one of SPLITS
    language: str  # one of LANGUAGES
    difficulty: int  # 1 to 3
    family: str  # the family that wrote it
    query: str
    final_response: str
    checker: dict[str, Any]  # see trainer.hima_ecom.checkers
    minimal_calls: int  # actions of the expert: delegations and tool calls
    customer_id: str | None = None  # who is logged in
    trajectory: tuple[dict[str, str], ...] = ()  # the expert's nodes in order: {"agent", "text"}; empty where unknown

    def to_json(self) -> dict[str, Any]:
        """Return the task as a JSON object."""
        return asdict(self) | {"trajectory": list(self.trajectory)}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Task":
        """Return the task of an object that `trainer.hima_ecom.dataset` has checked; other keys are ignored."""
        fields = {name: record[name] for name in cls.__dataclass_fields__ if name in record}
        return cls(**fields | {"trajectory": tuple(record.get("trajectory", ()))})
