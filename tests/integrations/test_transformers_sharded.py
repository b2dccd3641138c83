"""A decoder that FSDP2 has sharded, in a group of one process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from decoder_runs import make_model
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

import himakernels.integrations.transformers as hf
from himakernels import pack

(FOREST,) = pack([[1, 2, 3, 4], [1, 2, 5]], sample_id=[0, 1], trained=[[False, True, True, True], [False, False, True]])


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[DeviceMesh]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def test_a_sharded_decoder_is_the_same(mesh: DeviceMesh) -> None:
    plain, model = make_model("llama"), make_model("llama")
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model.model, mesh=mesh)
    assert isinstance(model.model.embed_tokens.weight, DTensor)
    for each in (plain, model):
        for _ in range(2):
            hidden = hf.hidden_states(each, FOREST)
            hidden.square().sum().backward()
    assert torch.equal(hidden, hf.hidden_states(plain, FOREST))
    for got, want in zip(model.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(got.grad.full_tensor(), want.grad)


def test_parameters_that_nothing_gathers_are_refused(mesh: DeviceMesh) -> None:
    """The decoder of a model that is sharded as a whole runs below the hooks of that model."""
    model = make_model("llama")
    fully_shard(model, mesh=mesh)
    with pytest.raises(NotImplementedError, match=r"fully_shard\(model.get_decoder.*got a LlamaModel with .* type DTensor"):
        hf.hidden_states(model, FOREST)
