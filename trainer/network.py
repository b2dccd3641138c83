"""One network and the policies that run on it: a frozen base with an adapter each, or one policy's own parameters."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel

import himakernels.integrations.transformers as hf
from himakernels import PackedTree
from himakernels.integrations.peft import packed_adapters, train_adapters
from himakernels.integrations.peft_checks import check_model, lora_layers
from himakernels.integrations.transformers_models import check_decoder
from trainer.network_checks import check_network, plain_attention
from trainer.network_files import put
from trainer.pretrained import load_adapter, load_model
from trainer.weights_ids import WeightsIds

_DECODES = "_decodes"  # no policy's name: the network generates for all of them
_REFERENCE = "_reference"  # what the frozen copy of a policy's adapter is called after the policy


class Base:
    """A network that trains packed forests and generates.

    Args:
        model: a causal language model of transformers. It is changed: with `lora`, PEFT puts adapters into its layers.
        policies: their names; one, if there is no `lora`.
        lora: what each policy's adapter is; None: the policy is all parameters that require gradients. Those that do not
            stay as they are, bit for bit.
        dtype: what the network computes in. Trained parameters and the optimiser's view of them are fp32 (fp64 for fp64):
            adapters themselves, and for a network trained as a whole in bf16 a copy of it, the master weights.
        name: what the model can be loaded by again; "" for none.

    Raises:
        ValueError: more policies than a network without adapters has, a name that PEFT can't take.
        ValueError, NotImplementedError: see `check_network`; decoders and adapters that `hidden_states` does not run.
    """

    def __init__(
        self, model: PreTrainedModel, policies: Sequence[str], lora: LoraConfig | None, dtype: torch.dtype, name: str = ""
    ) -> None:
        self.policies, self.name, self.adapters, self.dtype = tuple(policies), name, lora is not None, dtype
        if lora is None and len(self.policies) != 1:
            raise ValueError(f"policies: expected one for a network without adapters, got {', '.join(self.policies)}")
        bad = [policy for policy in self.policies if "." in policy or policy.endswith(_REFERENCE)]
        if bad:
            raise ValueError(f"policies: expected names without dots that don't end in {_REFERENCE}, got {bad[0]!r}")
        check_network(model, adapters=self.adapters)
        given = {name: parameter.detach() for name, parameter in model.named_parameters()}  # as exact as they came
        for parameter in model.parameters():  # not the buffers: rotary frequencies stay as exact as they are
            parameter.data = parameter.data.to(dtype)
        self._plain = plain_attention(model)
        model.set_attn_implementation(hf.ATTENTION)
        self.network = model
        self.model: PreTrainedModel | PeftModel = model
        self._frozen: PreTrainedModel | None = None
        if lora is not None:
            self.model = get_peft_model(model, copy.deepcopy(lora), adapter_name=self.policies[0])
            for policy in self.policies[1:]:
                self.model.add_adapter(policy, copy.deepcopy(lora))
            check_model(self.model, set(self.policies), check_base=False)
            self._trained = train_adapters(self.model, self.policies)
            self._masters = self._trained
        else:
            trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
            wide = trained if dtype != torch.bfloat16 else {name: nn.Parameter(given[name].float()) for name in trained}
            self._trained = {self.policies[0]: list(trained.values())}
            self._masters = self._trained if wide is trained else {self.policies[0]: list(wide.values())}
            self._whole: dict[str, torch.Tensor] = given | wide  # {name: what is saved}, the masters among them
        self._layers = lora_layers(self.model) if self.adapters else {}
        self._generates: str | None = None  # a policy, plainly; _DECODES: any; None: it trains
        self.weights_ids = WeightsIds(self.policies)  # `load` and `publish` renew them; whoever writes to `parameters` must
        self.model.train()
        check_decoder(self.network, hf.ATTENTION)  # like the adapters, before anything is done with it

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.network.device

    @property
    def frozen(self) -> tuple[str, ...]:
        """The parameters of a network trained as a whole that are not trained: they did not require gradients."""
        return () if self.adapters else tuple(name for name, p in self.network.named_parameters() if not p.requires_grad)

    @property
    def vocab_size(self) -> int:
        """The rows of its embedding."""
        embedding: Any = self.network.get_input_embeddings()
        return int(embedding.weight.shape[0])

    def hidden_states(
        self, packed: PackedTree, *, reference: bool = False, router_logits: list[torch.Tensor] | None = None
    ) -> torch.Tensor:
        """[R, H] of a forest whose segments are `policies`; adapters without tokens do not run. See `hf.hidden_states`.

        reference: with each policy's frozen copy (`freeze_reference`) in its place; where an adapter has none, without it.

        Raises: ValueError for the reference of a network without adapters that was never frozen.
        """
        self._become(None)
        if not self.adapters:
            network = self._reference_network() if reference else self.network
            return hf.hidden_states(network, packed, router_logits=router_logits)
        with packed_adapters(self._peft, self._adapters(reference), packed.segments, check_base=False):
            return hf.hidden_states(self.model, packed, router_logits=router_logits)

    def head(self, *, reference: bool = False) -> hf.OutputHead:
        """What turns hidden states into logits."""
        return hf.output_head(self._reference_network() if reference and not self.adapters else self.network)

    @contextmanager
    def generating(self, policy: str) -> Iterator[PreTrainedModel]:
        """Inside, the network is a plain model that generates as `policy`: its own attention, eval mode, no gradients.

        It stays so afterwards, as the next call is often another of these, until `hidden_states` makes it train again.
        """
        if policy not in self.policies:
            raise ValueError(f"policy: expected one of {', '.join(self.policies)}, got {policy!r}")
        self._become(policy)
        with torch.no_grad():
            yield self.network

    @contextmanager
    def decoding(self) -> Iterator[PreTrainedModel | PeftModel]:
        """Inside, the model generates for any policy, by the attention that it trains with: eval mode, no gradients."""
        self._become(_DECODES)
        with torch.no_grad():
            yield self.model

    def parameters(self, policy: str) -> list[nn.Parameter]:
        """What the optimiser of a policy steps: fp32, in the order of the network's own."""
        return self._masters[policy]

    def hidden_matrices(self, policy: str) -> list[nn.Parameter]:
        """Those of `parameters` that are matrices from hidden states to hidden states: no token embeddings, no head."""
        ends = (self.network.get_input_embeddings(), self.network.get_output_embeddings())
        tables = {id(p) for end in ends if isinstance(end, nn.Module) for p in end.parameters()}
        pairs = zip(self._trained[policy], self._masters[policy], strict=True)
        return [master for trained, master in pairs if trained.dim() == 2 and id(trained) not in tables]

    def take_gradients(self) -> None:
        """After each backward: adds the gradients of a bf16 network to its masters', in fp32, and clears them."""
        for trained, masters in self._apart():
            for parameter, master in zip(trained, masters, strict=True):
                if parameter.grad is not None:
                    wide = parameter.grad.float()
                    master.grad = wide if master.grad is None else master.grad.add_(wide)
                    parameter.grad = None

    @torch.no_grad()
    def publish(self) -> None:
        """After a step: rounds the masters of a bf16 network into it."""
        for trained, masters in self._apart():
            self.weights_ids.renew(*self.policies)  # one: adapters are their own masters
            torch._foreach_copy_([*trained], [*masters])

    @torch.no_grad()
    def freeze_reference(self) -> None:
        """The present policies become the references of the KL term."""
        self._become(None)
        if not self.adapters:
            self._frozen = copy.deepcopy(self.network).requires_grad_(False)
            return
        for policy in self.policies:
            if policy + _REFERENCE not in self._peft.peft_config:
                self._peft.add_adapter(policy + _REFERENCE, copy.deepcopy(self._peft.peft_config[policy]))
            for name, parameter in self._named(policy).items():
                self._named(policy + _REFERENCE)[name].copy_(parameter)
        train_adapters(self._peft, self.policies)

    @property
    def has_reference(self) -> bool:
        """Whether `hidden_states(reference=True)` runs."""
        return self.adapters or self._frozen is not None

    def save(self, policy: str, folder: Path) -> None:
        """An adapter as a PEFT folder, a whole network as transformers saves it; values in fp32. A frozen reference comes into
        folder/reference."""
        if self.adapters:
            self._save_adapter(policy, folder)
            if policy + _REFERENCE in self._peft.peft_config:
                self._save_adapter(policy + _REFERENCE, folder / "reference")
            return
        state = self.network.state_dict()
        owners = {tensor.data_ptr(): self._whole[name].data for name, tensor in state.items() if name in self._whole}
        self.network.save_pretrained(folder, state_dict={n: owners.get(t.data_ptr(), t) for n, t in state.items()})
        if self._frozen is not None:
            self._frozen.save_pretrained(folder / "reference")

    def save_frozen(self, folder: Path) -> None:
        """The network without its adapters."""
        state = {n.replace(".base_layer.", "."): t for n, t in self.network.state_dict().items() if ".lora_" not in n}
        self.network.save_pretrained(folder, state_dict=state)

    @torch.no_grad()
    def load(self, policy: str, folder: Path) -> None:
        """Puts what `save` wrote, or anybody's PEFT folder of the same shape, in the place of the present values.

        Raises: FileNotFoundError without the folder's files; ValueError for other parameters or shapes than the policy has.
        """
        self._become(None)
        self.weights_ids.renew(policy)
        reference = folder / "reference"
        if self.adapters:
            self._load_adapter(policy, folder)
            if reference.exists():
                if policy + _REFERENCE not in self._peft.peft_config:
                    self._peft.add_adapter(policy + _REFERENCE, copy.deepcopy(self._peft.peft_config[policy]))
                self._load_adapter(policy + _REFERENCE, reference)
                train_adapters(self._peft, self.policies)
            return
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"{folder}: expected a folder with the config.json of a saved network, got none")
        wide = self._masters[policy][0].dtype
        saved = dict(load_model(folder, wide, type(self.network), safetensors=True).named_parameters())
        put(folder, self._whole, saved)
        for name, parameter in self.network.named_parameters():
            parameter.copy_(self._whole[name])
        if reference.exists():
            self._frozen = copy.deepcopy(self.network).requires_grad_(False)
            saved = dict(load_model(reference, self.dtype, type(self.network), safetensors=True).named_parameters())
            put(reference, dict(self._frozen.named_parameters()), saved)

    @property
    def _peft(self) -> PeftModel:
        assert isinstance(self.model, PeftModel)
        return self.model

    def _become(self, policy: str | None) -> None:
        """The network generates as a policy, or trains; without a walk through its modules where it does already."""
        if policy == self._generates:
            return
        plain, self._generates = policy not in (None, _DECODES), ""  # nobody: an interrupt may come before the end
        self.model.train(policy is None)
        self.network.set_attn_implementation(self._plain if plain else hf.ATTENTION)
        if plain:
            for layer in self._layers.values():
                layer.set_adapter([policy], inference_mode=True)
        elif policy is None:
            for parameters in self._trained.values():  # PEFT's switch has frozen them
                for parameter in parameters:
                    parameter.requires_grad_(True)
        self._generates = policy

    def _apart(self) -> Iterator[tuple[list[nn.Parameter], list[nn.Parameter]]]:
        """(the network's parameters, their masters), where the two are not the same."""
        for policy, trained in self._trained.items():
            if self._masters[policy] is not trained:
                yield trained, self._masters[policy]

    def _adapters(self, reference: bool) -> list[str | None]:
        if not reference:
            return list(self.policies)
        frozen = [policy + _REFERENCE for policy in self.policies]
        return [name if name in self._peft.peft_config else None for name in frozen]

    def _reference_network(self) -> PreTrainedModel:
        if self._frozen is None:
            raise ValueError(
                f"policy {self.policies[0]!r}: expected a frozen reference for the KL term, got none; call "
                "Policies.freeze_reference() once, where training begins"
            )
        return self._frozen

    def _named(self, adapter: str) -> dict[str, torch.Tensor]:
        """An adapter's parameters by the names that PEFT's files have for them."""
        marks = (f".lora_A.{adapter}.", f".lora_B.{adapter}.")
        found: dict[str, torch.Tensor] = {}
        for name, parameter in self._peft.named_parameters():
            for mark in marks:
                if mark in name:
                    found[name.replace(mark, mark[: -len(adapter) - 1])] = parameter
        return found

    def _save_adapter(self, adapter: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({n: p.detach().contiguous() for n, p in self._named(adapter).items()}, folder / "adapter_model.safetensors")
        self._peft.peft_config[adapter].save_pretrained(str(folder))

    def _load_adapter(self, adapter: str, folder: Path) -> None:
        config, weights = load_adapter(folder)
        own = self._peft.peft_config[adapter]
        for option in ("lora_alpha", "use_rslora"):  # not to be seen in the shapes
            if config.get(option) != getattr(own, option):
                raise ValueError(f"{folder}: expected {option} {getattr(own, option)}, got {config.get(option)}")
        put(folder, self._named(adapter), weights)
