"""Whose weights an agent acts with: one base with an adapter an agent, a network an agent, or one policy for all.

policies = Policies.create(ModelConfig(name="Qwen/Qwen2.5-3B-Instruct"), ("master", "qa", "efc", "gfc", "math"))
policies.base_of("qa").hidden_states(packed)          # training: packed forests of all agents that share the base
with policies.base_of("qa").generating("qa") as model: ...
policies.save("runs/1/policies")
"""

import copy
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig
from torch import nn
from transformers import PreTrainedModel

from himakernels.checks import check_choice, check_positive
from trainer.checksums import is_sealed, naming, seal, verify
from trainer.config_file import build
from trainer.kinds import check_fields
from trainer.network import Base
from trainer.network_checks import warn_of_inputs
from trainer.pretrained import class_of, load_model, load_tokenizer

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
_FILE = "policies.json"


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What the policies are made of."""

    name: str = "tiny"  # the model of every agent that `bases` does not name: of transformers' hub, or a folder
    bases: Mapping[str, str] = field(default_factory=dict)  # {agent: name}; a bigger model for the master, say
    # "lora": a frozen base and an adapter an agent. "full": a network an agent, trained as a whole, but for the parameters of
    # a network passed as an object that do not require gradients. "shared": one policy.
    paradigm: Literal["lora", "full", "shared"] = "lora"
    shared_trains: Literal["lora", "full"] = "full"  # of "shared": an adapter, or the whole network
    lora_rank: int = 16
    lora_alpha: float = 32.0  # an adapter adds lora_alpha / lora_rank times its product
    target_modules: str | tuple[str, ...] = "all-linear"  # the layers that get adapters; never the head
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"  # of the network; what is trained stays fp32 (fp64) anyway
    gradient_checkpointing: bool = False  # forward once more in the backward, for memory
    device: str | None = None  # None: the GPU if there is one

    def __post_init__(self) -> None:
        check_choice("paradigm", self.paradigm, ("lora", "full", "shared"))
        check_choice("shared_trains", self.shared_trains, ("lora", "full"))
        check_choice("dtype", self.dtype, tuple(_DTYPES))
        check_fields(self)
        check_positive("lora_rank", self.lora_rank)
        check_positive("lora_alpha", self.lora_alpha)
        if self.paradigm == "shared" and self.bases:
            raise ValueError(f"bases: expected none where all agents share one policy, got {dict(self.bases)}")

    @property
    def adapters(self) -> bool:
        """Whether policies are adapters."""
        return self.paradigm == "lora" or (self.paradigm == "shared" and self.shared_trains == "lora")


class Policies:
    """All policies of a system, on as few networks as they need.

    tokenizer: of all of them. agents: their names. policy_of: {agent: policy}; a policy is called after its agent, or "shared".
    bases: the networks. versions: {policy: how often its weights have changed}. A version is saved and loaded with the weights,
    so two sets of weights may have the same; `weights_id` tells them apart.
    """

    SHARED = "shared"

    def __init__(self, config: ModelConfig, agents: Sequence[str], tokenizer: Any, bases: Sequence[Base]) -> None:
        self.config, self.agents, self.tokenizer, self.bases = config, tuple(agents), tokenizer, list(bases)
        shared = config.paradigm == "shared"
        self.policy_of: dict[str, str] = {agent: self.SHARED if shared else agent for agent in self.agents}
        self.names = tuple(dict.fromkeys(self.policy_of.values()))
        self.versions = dict.fromkeys(self.names, 0)
        self._bases = {policy: base for base in self.bases for policy in base.policies}

    @classmethod
    def create(
        cls,
        config: ModelConfig,
        agents: Sequence[str],
        *,
        tokenizer: Any = None,
        models: Mapping[str, PreTrainedModel] | None = None,
        seed: int = 0,
    ) -> "Policies":
        """Networks and adapters as `config` says; new adapters add nothing yet.

        Args:
            models: networks by name, instead of what transformers loads by it. The object itself is used once and changed,
                and copied where a second agent needs a network of its own.
            tokenizer: None: that of the models. It may have more tokens than a model has rows (Gemma 3 1B's does), as long as
                no text makes them.
            seed: of the adapters' first matrices.

        Raises:
            ValueError: no agents or two of one name, bases for other agents, models whose tokenizers differ; OSError from
                transformers for a name that it can't load.
        """
        agents, given = tuple(agents), dict(models or {})
        if not agents or len(set(agents)) != len(agents):
            raise ValueError(f"agents: expected different names, got {list(agents)}")
        unknown = sorted(set(config.bases) - set(agents))
        if unknown:
            raise ValueError(f"bases: expected the agents {', '.join(agents)}, got {unknown[0]!r}")
        name_of = {agent: config.bases.get(agent, config.name) for agent in agents}
        if config.paradigm == "shared":
            groups = [(config.name, [cls.SHARED])]
        elif config.adapters:
            groups = [(name, [a for a in agents if name_of[a] == name]) for name in dict.fromkeys(name_of.values())]
        else:
            groups = [(name_of[agent], [agent]) for agent in agents]
        if tokenizer is None:
            tokenizer = _tokenizer(dict.fromkeys(name for name, _ in groups))
        bases = []
        for i, (name, policies) in enumerate(groups):
            again = any(later == name for later, _ in groups[i + 1 :])
            network = _network(config, name, given.get(name), again)
            with torch.random.fork_rng():
                torch.manual_seed(seed + i)
                base = Base(network, policies, _lora(config), _DTYPES[config.dtype], "" if name in given else name)
            bases.append(base)
        warn_of_inputs(base.network for base in bases)
        return cls(config, agents, tokenizer, bases)

    def base_of(self, policy: str) -> Base:
        """The network that a policy runs on. Raises: ValueError for an unknown one."""
        if policy not in self._bases:
            raise ValueError(f"policy: expected one of {', '.join(self.names)}, got {policy!r}")
        return self._bases[policy]

    def parameters(self, policy: str) -> list[nn.Parameter]:
        """What the optimiser of a policy steps, fp32."""
        return self.base_of(policy).parameters(policy)

    def weights_id(self, policy: str) -> int:
        """The identity of a policy's present weights, see `WeightsIds`: what was computed under another one is stale."""
        return self.base_of(policy).weights_ids[policy]

    def renew_weights_id(self, policy: str) -> None:
        """Declare that a policy's weights change."""
        self.base_of(policy).weights_ids.renew(policy)

    def freeze_reference(self) -> None:
        """The policies as they are become the references of the KL term; before, that is the base with the adapter off."""
        for base in self.bases:
            base.freeze_reference()

    def save(self, folder: str | Path) -> None:
        """{folder}/{policy}: an adapter as a PEFT folder, a network as transformers saves it; tokenizer; versions; checksums.

        A base that was given as an object is saved as well (base-0, ...): nothing else could bring it back.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for policy in self.names:
            self.base_of(policy).save(policy, folder / policy)
        frozen = {f"base-{i}": base for i, base in enumerate(self.bases) if base.adapters and not base.name}
        for name, base in frozen.items():
            base.save_frozen(folder / name)
        self.tokenizer.save_pretrained(folder / "tokenizer")
        record = {"config": asdict(self.config), "agents": self.agents, "versions": self.versions, "frozen": self._frozen}
        (folder / _FILE).write_text(json.dumps(record, indent=2) + "\n")
        seal(folder, [*self.names, *frozen, "tokenizer", _FILE])

    def load(self, folder: str | Path) -> None:
        """Puts what `save` wrote of the same configuration in the place of the present values, exactly.

        Raises: FileNotFoundError for a folder that `save` has not written; DamagedError for a file that isn't as it left it;
            ValueError for other agents, policies or shapes.
        """
        verify(folder)
        self._load(Path(folder))

    def _load(self, folder: Path) -> None:
        record = _record(folder)
        if set(record["versions"]) != set(self.names):
            raise ValueError(f"{folder}: expected the policies {', '.join(self.names)}, got {', '.join(record['versions'])}")
        for policy, names in record["frozen"].items():
            if different := sorted(set(names) ^ set(self._frozen[policy])):
                verb, other = ("trained", "frozen") if different[0] in names else ("frozen", "trained")
                raise ValueError(f"{folder}: expected {different[0]} {verb}, got it {other} in policy {policy!r}")
        for policy in self.names:
            self.base_of(policy).load(policy, folder / policy)
        self.versions |= record["versions"]

    @property
    def _frozen(self) -> dict[str, list[str]]:
        """{policy: the parameters of its network that are not trained}, for networks trained as a whole."""
        return {policy: list(self.base_of(policy).frozen) for policy in self.names}

    @classmethod
    def open(cls, folder: str | Path, *, device: str | None = None) -> "Policies":
        """What `save` wrote, made anew. Raises: as `load`."""
        folder = Path(folder)
        verify(folder)
        record = _record(folder)
        if not is_sealed(folder):
            warnings.warn(f"{folder}: saved without checksums, so its files were not checked for damage", stacklevel=2)
        agents, made = record["agents"], replace(record["config"], device=device)
        names = list(dict.fromkeys(made.bases.get(agent, made.name) for agent in agents))
        if made.adapters:
            kept = {name: folder / f"base-{i}" for i, name in enumerate(names)}
        else:
            kept = {made.bases.get(a, made.name): folder / (cls.SHARED if made.paradigm == "shared" else a) for a in agents}
        there = {name: path for name, path in kept.items() if (path / "config.json").is_file()}
        networks = {name: _load(path, made, kind=class_of(path), safetensors=True) for name, path in there.items()}
        with naming(folder / _FILE, "parameters of these networks as frozen"):
            for name, path in kept.items():
                for frozen in record["frozen"].get(path.name, ()):
                    networks[name].get_parameter(frozen).requires_grad_(False)
        tokenizer = load_tokenizer(folder / "tokenizer")
        policies = cls.create(made, agents, tokenizer=tokenizer, models=networks)
        policies._load(folder)
        return policies


def _record(folder: Path) -> dict[str, Any]:
    """The record that `save` writes beside the weights: config, agents, versions, frozen."""
    path = folder / _FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: expected a folder of saved policies with {_FILE}, got none")
    with naming(path, "what Policies.save writes"):
        record = json.loads(path.read_text(encoding="utf-8"))
        config, agents, versions = (record[name] for name in ("config", "agents", "versions"))
        targets = config["target_modules"]
        config = build(ModelConfig, config | {"target_modules": tuple(targets) if isinstance(targets, list) else targets})
        if not isinstance(agents, list) or not all(isinstance(agent, str) for agent in agents):
            raise ValueError(f"agents: expected a list of names, got {agents!r}")
        if not isinstance(versions, dict) or not all(type(version) is int for version in versions.values()):
            raise ValueError(f"versions: expected whole numbers by policy, got {versions!r}")
        frozen = record.get("frozen", {})
        if not isinstance(frozen, dict) or not all(isinstance(names, list) for names in frozen.values()):
            raise ValueError(f"frozen: expected lists of parameters by policy, got {frozen!r}")
    return {"config": config, "agents": agents, "versions": versions, "frozen": frozen}


def _lora(config: ModelConfig) -> LoraConfig | None:
    if not config.adapters:
        return None
    targets = config.target_modules if isinstance(config.target_modules, str) else list(config.target_modules)
    alpha: Any = int(config.lora_alpha) if config.lora_alpha == int(config.lora_alpha) else config.lora_alpha  # PEFT says int
    return LoraConfig(r=config.lora_rank, lora_alpha=alpha, target_modules=targets, bias="none", task_type="CAUSAL_LM")


def _load(name: str | Path, config: ModelConfig, **options: Any) -> PreTrainedModel:
    """In fp32 where it is trained as a whole: the master weights lose nothing."""
    dtype = _DTYPES[config.dtype] if config.adapters else torch.promote_types(_DTYPES[config.dtype], torch.float32)
    return load_model(name, dtype, **options)


def _network(config: ModelConfig, name: str, given: PreTrainedModel | None, again: bool) -> PreTrainedModel:
    """The model on its device; a copy of a given one that is needed `again`."""
    model: Any = _load(name, config) if given is None else copy.deepcopy(given) if again else given
    device = config.device or ("cuda" if torch.cuda.is_available() else None)
    if device is not None:
        model.to(device)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    network: PreTrainedModel = model
    return network


def _tokenizer(names: Sequence[str] | Mapping[str, Any]) -> Any:
    """The one that all models have."""
    first, *others = names
    tokenizer = load_tokenizer(first)
    for name in others:
        if load_tokenizer(name).get_vocab() != tokenizer.get_vocab():
            raise ValueError(f"bases: expected models of one tokenizer, got another vocabulary in {name!r} than in {first!r}")
    return tokenizer
