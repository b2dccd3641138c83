"""The balancing loss of networks with experts, for each agent over its own sequences."""

import torch
from transformers import PreTrainedModel

from himakernels.integrations.transformers_experts import balancing_loss, check_balancing, has_routers, router_coefficient
from trainer.network import Base
from trainer.sequences import Batch, MicroBatch


def coefficient_of(network: PreTrainedModel, chosen: float | None) -> float:
    """The coefficient for a network: the chosen one; None: that of its own configuration, 0 where it has no experts.

    Raises: ValueError for one above 0 and a network without routers; NotImplementedError for another balancing loss.
    """
    if chosen and not has_routers(network):
        kind = network.config.model_type
        raise ValueError(f"router_aux_loss_coef: expected 0 or None for a network without experts ({kind}), got {chosen}")
    coefficient = router_coefficient(network) if chosen is None else chosen
    if coefficient:
        check_balancing(network)
    return coefficient


def balancing_losses(base: Base, batch: MicroBatch, whole: Batch, router_logits: list[torch.Tensor]) -> torch.Tensor:
    """[A] the loss of each agent over the micro-batch, times the share of the agent's tokens in the batch that are here.

    So the micro-batches' sum is a mean. A token counts once for each sequence that it is in, as if none were shared; prompts
    count, as in TRL.
    """
    packed = batch.packed
    assert packed.agent_id is not None
    agent_of = packed.agent_id[packed.sequence_id]  # a sequence is a sample
    found = torch.zeros(len(whole.sequence_tokens), device=base.device)
    for agent in batch.of_agent:
        weight = packed.passes(agent_of == agent)
        mine = weight.nonzero()[:, 0]  # transformers spreads each token that it is given over all experts
        share = weight.sum() / whole.sequence_tokens[agent]
        found[agent] = balancing_loss(base.network, [logits[mine] for logits in router_logits], weight[mine]) * share
    return found
