"""An episode: tools by name over an overlay, every result a JSON text, no input an exception."""

import json
from typing import Any

from trainer.hima_ecom import tools  # noqa: F401 - registers them
from trainer.hima_ecom.base import Base, Row
from trainer.hima_ecom.overlay import Overlay, Snapshot
from trainer.hima_ecom.tools.registry import AGENTS, REGISTRY, ToolError, shown


class Session:
    """One episode over a shared base store; its writes stay in it."""

    def __init__(self, base: Base, customer_id: str | None = None) -> None:
        self.store = Overlay(base, customer_id)

    @property
    def customer_id(self) -> str | None:
        """Who has been identified."""
        return self.store.customer_id

    def call(self, name: str, arguments: Any, *, agent: str | None = None) -> str:
        """Runs one tool; returns its observation as compact JSON, {"error": reason} where it was refused.

        Args: agent: only this agent's tools are known; None knows them all. A refused call leaves the state as it was.
        """
        assert agent is None or agent in AGENTS, agent
        tool = REGISTRY.get(name) if isinstance(name, str) else None
        if tool is None or (agent is not None and tool.agent != agent):
            return observation({"error": f"unknown tool {shown(name)}"})
        before = self.store.snapshot() if tool.writes else None
        try:
            return observation(tool.run(self.store, arguments))
        except ToolError as error:
            if before is not None:
                self.store.restore(before)
            return observation({"error": str(error)})

    def snapshot(self) -> Snapshot:
        """The state, in time proportional to the touched rows only."""
        return self.store.snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        """Back to a state; a snapshot may be restored any number of times, also into another session of the world."""
        self.store.restore(snapshot)

    def changes(self) -> dict[str, dict[str, Row | None]]:
        """{table: {key: row, or None if deleted}} of every row that differs from the base, sorted."""
        return self.store.changes()

    def state_hash(self) -> str:
        """SHA-256 of `changes`."""
        return self.store.state_hash()


def observation(result: Any) -> str:
    """A result as the agent reads it."""
    return json.dumps(result, ensure_ascii=False, separators=(",", ":"))
