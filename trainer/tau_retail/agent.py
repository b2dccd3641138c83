"""The agent that plays the retail domain alone."""

from trainer.agents import Agent, single_agent
from trainer.tau_retail.data import Retail

NAME = "retail"
_ROLE = """\
serves a customer of an online store by the policy below.

There is no live conversation. The task is a note that was written to the customer: "you" in it is the customer. Authenticate \
the customer with what the note says, do what the note wants with the tools, and don't ask: the customer confirms (yes) \
whatever agrees with the note and declines the rest. Then give one final answer with everything the customer asked to know.

{policy}"""


def tau_retail_agents(retail: Retail) -> dict[str, Agent]:
    """One agent with policy and tools: `Episode(TauRetailEnv(retail), tau_retail_agents(retail), task=task, entry=NAME)`."""
    return single_agent(retail.toolbox.schemas, name=NAME, description=_ROLE.format(policy=retail.policy.strip()))
