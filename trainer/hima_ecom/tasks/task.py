"""A task of the benchmark: what is asked, how it is checked, and how the expert solves it."""

from dataclasses import asdict, dataclass
from typing import Any

COLUMNS = ("cooperation", "qa", "efc", "gfc", "math")  # the columns of the paper's table
SPLITS = ("sft", "train", "test")  # what experts demonstrate, (query, answer) pairs for RL, and what is tested
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
    family: str  # the template family; for cooperation the families of its parts, joined by "+"
    query: str
    final_response: str
    checker: dict[str, Any]  # see trainer.hima_ecom.checkers
    minimal_calls: int  # actions of the expert: delegations and tool calls
    customer_id: str | None = None  # who is logged in
    trajectory: tuple[dict[str, str], ...] = ()  # the expert's nodes in order: {"agent", "text"}; empty where unknown

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self) | {"trajectory": list(self.trajectory)}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Task":
        """From an object that `trainer.hima_ecom.dataset` has checked; keys that are no fields are left out."""
        fields = {name: record[name] for name in cls.__dataclass_fields__ if name in record}
        return cls(**fields | {"trajectory": tuple(record.get("trajectory", ()))})
