"""The tools of the four sub-agents, each declared once; importing this package registers them all."""

from trainer.hima_ecom.tools import (  # noqa: F401
    account,
    calculator,
    calendar,
    catalog,
    conversion,
    knowledge,
    mathematics,
    order_changes,
    orders,
    promotions,
    returns,
    text,
)
from trainer.hima_ecom.tools.registry import AGENTS, REGISTRY

# agent -> its tools as OpenAI function schemas, in order of declaration
TOOLS = {agent: [tool.schema() for tool in REGISTRY.values() if tool.agent == agent] for agent in AGENTS}
WRITING_TOOLS = frozenset(name for name, tool in REGISTRY.items() if tool.writes)


def tool_names(agent: str) -> tuple[str, ...]:
    """The names of an agent's tools. Raises: ValueError for an unknown agent."""
    if agent not in AGENTS:
        raise ValueError(f"agent: expected one of {', '.join(AGENTS)}, got {agent!r}")
    return tuple(name for name, tool in REGISTRY.items() if tool.agent == agent)
