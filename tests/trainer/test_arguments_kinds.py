"""Wrong kinds of arguments: each is named before anything is done, with what was expected and what came."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_policies import byte_tokenizer, qwen3
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Qwen3ForCausalLM, TrainerCallback, TrainingArguments

from trainer.agents import single_agent
from trainer.arguments import from_trl
from trainer.arguments_options import READ
from trainer.config import TrainConfig
from trainer.kinds import is_kind
from trainer.trainer import VRGRPOTrainer

ROWS = [{"prompt": "a"}, {"prompt": "b"}]
LORA = LoraConfig(target_modules="all-linear")


def reward(completions: list[str], **columns: Any) -> list[float]:
    return [float(len(text)) for text in completions]


class Environment:
    """As TRL's."""

    def reset(self, **row: Any) -> None: ...


class Rows:
    """Counts, but has no row 0, as a table of columns."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, name: str) -> Any:
        return {"prompt": ["a", "b"]}[name]


@dataclasses.dataclass
class Other:
    """The configuration of another trainer."""

    beta: float = 0.1
    learning_rate: float = 1e-3


class Callback(TrainerCallback):
    def __call__(self, kind: str) -> None: ...


FUNCTION = r"expected a function \(prompts, completions, \*\*columns\) -> numbers, got"
FACTORY = "expected a class or a function without arguments that makes an environment, got"
FUNCTIONS = r"expected a function \(kind, step, scalars\), no TrainerCallback, got"
MODEL = "model: expected a name or a network of transformers, got"
ARGS = "args: expected a TrainConfig or a GRPOConfig of TRL, got"
BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"model": Qwen3ForCausalLM}, TypeError, f"{MODEL} the class Qwen3ForCausalLM"),
    ({"model": {"name": "a"}}, TypeError, f"{MODEL} dict"),
    ({"model": torch.nn.Linear(2, 2)}, TypeError, f"{MODEL} Linear"),
    ({"model": ""}, ValueError, f"{MODEL} ''"),
    ({"model": None}, ValueError, "model: expected a name or a network with TRL's arguments, got None"),
    ({"args": {"max_steps": 3}}, TypeError, f"{ARGS} dict"),
    ({"args": TrainConfig}, TypeError, f"{ARGS} the class TrainConfig"),
    ({"args": Other()}, TypeError, f"{ARGS} Other"),
    ({"args": TrainingArguments(use_cpu=True)}, TypeError, f"{ARGS} TrainingArguments"),
    ({"args": SimpleNamespace(steps=3)}, TypeError, f"{ARGS} SimpleNamespace"),
    ({"args": 3}, TypeError, f"{ARGS} int"),
    ({"reward_funcs": None}, ValueError, "reward_funcs: expected functions for a data set of prompts, got None"),
    ({"reward_funcs": []}, ValueError, "reward_funcs: expected at least one function, got none"),
    ({"reward_funcs": "org/reward"}, TypeError, rf"reward_funcs\[0\]: {FUNCTION} 'org/reward'"),
    ({"reward_funcs": {"a": reward}}, TypeError, rf"reward_funcs\[0\]: {FUNCTION} {{'a'"),
    ({"reward_funcs": [reward, None]}, TypeError, rf"reward_funcs\[1\]: {FUNCTION} null"),
    ({"reward_funcs": [reward, Environment]}, TypeError, rf"reward_funcs\[1\]: {FUNCTION} the class Environment"),
    ({"train_dataset": None}, ValueError, "train_dataset: expected tasks with reward_funcs, got None"),
    (
        {"train_dataset": None, "reward_funcs": None},
        ValueError,
        "train_dataset: expected rows with a prompt with TRL's arguments, got None",
    ),
    (
        {"train_dataset": {"train": ROWS, "test": ROWS}},
        TypeError,
        "train_dataset: expected rows, got a dict of train, test; pass",
    ),
    ({"train_dataset": "data.jsonl"}, TypeError, "train_dataset: expected rows that can be counted, got str"),
    ({"train_dataset": iter(ROWS)}, TypeError, "train_dataset: expected rows that can be counted, got list_iterator"),
    ({"train_dataset": Rows()}, TypeError, r"train_dataset: expected rows by number, train_dataset\[0\], got Rows without"),
    ({"train_dataset": []}, ValueError, "train_dataset: expected at least one row, got none"),
    ({"train_dataset": ["a"]}, TypeError, r"train_dataset\[0\]: expected a row \(a mapping\), got str"),
    ({"eval_dataset": {"a": ROWS}}, TypeError, "eval_dataset: expected rows, got a dict of a; pass one of its values"),
    ({"eval_dataset": []}, ValueError, "eval_dataset: expected at least one row, got none"),
    ({"eval_dataset": [{"question": "a"}]}, ValueError, r"eval_dataset\[0\]: expected a column 'prompt', got question"),
    (
        {"eval_dataset": [{"prompt": [{"role": "user", "content": "a"}]}]},
        ValueError,
        r"eval_dataset\[0\]: expected a prompt of the kind of train_dataset\[0\], all texts or all messages",
    ),
    ({"processing_class": "gpt2"}, TypeError, "processing_class: expected a tokenizer of transformers, got 'gpt2'"),
    ({"processing_class": type(byte_tokenizer())}, TypeError, "processing_class: .* got the class "),
    ({"processing_class": byte_tokenizer().backend_tokenizer}, TypeError, "processing_class: .*, got Tokenizer"),
    ({"processing_class": None}, ValueError, "processing_class: expected a tokenizer, as the network has no name"),
    ({"callbacks": reward}, TypeError, r"callbacks: expected a list of functions \(kind, step, scalars\), got <function"),
    ({"callbacks": [Callback]}, TypeError, rf"callbacks\[0\]: {FUNCTIONS} the class Callback"),
    ({"callbacks": [TrainerCallback()]}, TypeError, rf"callbacks\[0\]: {FUNCTIONS} <"),
    ({"callbacks": [print, Callback()]}, TypeError, rf"callbacks\[1\]: {FUNCTIONS} one of \(kind: str\) -> None: too many"),
    ({"peft_config": LoraConfig}, TypeError, "peft_config: expected a LoraConfig, got the class LoraConfig"),
    ({"peft_config": {"r": 3}}, TypeError, "peft_config: expected a LoraConfig, got dict"),
    ({"agents": list(single_agent([]).values())}, TypeError, r"agents: expected {name: Agent}, got \[Agent"),
    ({"agents": {}}, ValueError, "agents: expected at least one, got none"),
    ({"agents": {"a": "answers."}}, TypeError, r"agents\['a'\]: expected a text and an Agent, got 'answers.'"),
    (
        {"environment_factory": {"one": object}},
        NotImplementedError,
        rf"environment_factory: {FACTORY} a dict of several \(one\)",
    ),
    ({"environment_factory": Environment()}, TypeError, f"environment_factory: {FACTORY} <"),
    ({"env_factory": "env"}, TypeError, f"env_factory: {FACTORY} 'env'"),
    ({"env_factory": lambda row: Environment()}, TypeError, rf"env_factory: {FACTORY} one of \(row\): missing a required"),
    ({"env_factory": lambda: 3}, TypeError, "env_factory: expected an environment .*, or a factory of one, got int"),
    (
        {"env_factory": lambda: None, "agents": single_agent([])},
        TypeError,
        "env_factory: expected an environment .*, got NoneType",
    ),
    ({"on_report": 3}, TypeError, r"on_report: expected a function \(report\), got 3"),
    ({"on_report": lambda: None}, TypeError, r"on_report: expected a function \(report\), got one of \(\): too many"),
    ({"optimizers": (torch.ones(2), None)}, NotImplementedError, r"optimizers: expected \(None, None\), got \(tensor"),
]


@pytest.mark.parametrize(("wrong", "error", "message"), BAD)
def test_a_wrong_argument_is_named(wrong: dict[str, Any], error: type[Exception], message: str, tmp_path: Path) -> None:
    args = SimpleNamespace(output_dir=str(tmp_path / "run"), max_steps=1, use_cpu=True, bf16=False)
    right = {"args": args, "reward_funcs": reward, "train_dataset": ROWS, "processing_class": byte_tokenizer()}
    with pytest.raises(error, match=f"^{message}"):
        VRGRPOTrainer(**{"model": NETWORK} | right | wrong)
    assert not (tmp_path / "run").exists()


NETWORK = qwen3()


def test_a_model_with_adapters_around_it_is_named() -> None:
    with pytest.raises(TypeError, match=f"{MODEL} a PeftModel.*; pass the network without adapters, and a LoraConfig"):
        VRGRPOTrainer(get_peft_model(qwen3(), LORA), reward_funcs=reward, train_dataset=ROWS)


@pytest.mark.parametrize("value", [3, {"folder": "a"}, Path])
def test_where_to_go_on_and_to_save(value: Any, tmp_path: Path) -> None:
    args = SimpleNamespace(output_dir=str(tmp_path / "run"), max_steps=1, use_cpu=True, bf16=False)
    made = VRGRPOTrainer(NETWORK, args, reward, ROWS, processing_class=byte_tokenizer())
    with pytest.raises(TypeError, match=r"^resume_from_checkpoint: expected true or false or a text or a Path or null, got"):
        made.train(resume_from_checkpoint=value)
    with pytest.raises(TypeError, match=r"^output_dir: expected a text or a Path or null, got"):
        made.save_model(value)


@pytest.mark.parametrize("column", ["image", "images", "video", "audio"])
def test_rows_that_are_more_than_text(column: str) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "head_dim": 16}
    gemma = Gemma3ForConditionalGeneration(
        Gemma3Config(
            text_config={**sizes, "num_key_value_heads": 1, "vocab_size": 272},
            vision_config={"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1},
        )
    )
    for model, name in ((gemma, "gemma3"), (NETWORK, "qwen3")):
        for dataset in (
            {"train_dataset": [*ROWS, {"prompt": "c", column: object()}]},
            {"eval_dataset": [{"prompt": "c", column: 1}]},
        ):
            (key, rows) = next(iter(dataset.items()))
            message = (
                rf"^{key}\[{len(rows) - 1}\]: expected a prompt of text alone, got a column '{column}', .* the model '{name}'"
            )
            with pytest.raises(NotImplementedError, match=message):
                VRGRPOTrainer(model, None, reward, **{"train_dataset": ROWS} | dataset, processing_class=byte_tokenizer())
    for agents in (None, single_agent([])):
        with pytest.raises(NotImplementedError, match=rf"^train_dataset\[0\]: .* a column '{column}', .* the model 'qwen3'"):
            VRGRPOTrainer(
                NETWORK,
                SimpleNamespace(max_steps=1, use_cpu=True, bf16=False),
                reward,
                [{"prompt": "c", column: 1}],
                processing_class=byte_tokenizer(),
                environment_factory=Environment,
                agents=agents,
            )
    empty = [{"prompt": "c", column: value} for value in (None, [], ())] * 3
    VRGRPOTrainer(gemma, None, reward, empty, processing_class=byte_tokenizer())


NUMBERS = [
    ("max_completion_length", 8.7, "a whole number or null, got 8.7"),
    ("max_steps", 2.5, "a whole number, got 2.5"),
    ("max_steps", None, "a whole number, got null"),
    ("num_generations", True, "a whole number, got True"),
    ("top_k", 1.5, "a whole number or null, got 1.5"),
    ("temperature", "0.7", "a number, got '0.7'"),
    ("gradient_checkpointing", "no", "true or false, got 'no'"),
    ("use_cpu", 1, "true or false, got 1"),
    ("save_total_limit", 2.0, "a whole number or null, got 2.0"),
    ("reward_weights", "11", "a list of numbers or null, got '11'"),
    ("reward_weights", [True], r"a list of numbers or null, got \[True\]"),
    ("chat_template_kwargs", [1], r"a mapping or null, got \[1\]"),
    ("loss_type", None, "a text, got null"),
    ("seed", "1", "a whole number, got '1'"),
]


@pytest.mark.parametrize(("name", "value", "message"), NUMBERS)
def test_an_option_of_another_type(name: str, value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=f"^args: {name}: expected {message}$"):
        from_trl(SimpleNamespace(**{"max_steps": 3, name: value}))


def test_what_would_be_rounded() -> None:
    """transformers takes numbers of steps as floats, and cuts them."""
    for name in ("logging_steps", "save_steps", "warmup_steps", "eval_steps"):
        for value in (1.5, -1, float("nan"), float("inf")):
            options = {"max_steps": 10, "eval_strategy": "steps", name: value}
            with pytest.raises(
                ValueError, match=f"^args: {name}: expected a whole number of updates, or a share of them below 1"
            ):
                from_trl(SimpleNamespace(**options))
        from_trl(SimpleNamespace(max_steps=10, eval_strategy="steps", **{name: 3.0}))


def test_the_types_are_trls() -> None:
    trl = pytest.importorskip("trl")
    hints = get_type_hints(trl.GRPOConfig)
    for item in dataclasses.fields(trl.GRPOConfig):
        if item.name in READ:
            assert is_kind(getattr(item.default, "value", item.default), READ[item.name]), item.name
            for kind in (int, float, bool):
                assert (hints[item.name] in (kind, kind | None)) <= (READ[item.name] in (kind, kind | None)), item.name


@pytest.mark.parametrize(("alpha", "scale"), [(1.5, 0.375), (22.6, 5.65), (0.5, 0.125), (8, 2.0)])
def test_an_alpha_of_an_adapter_is_pefts(alpha: Any, scale: float) -> None:
    """PEFT: lora_alpha / r."""
    lora = LoraConfig(r=4, lora_alpha=alpha, target_modules=["q_proj"], task_type="CAUSAL_LM")
    made = VRGRPOTrainer(qwen3(), None, reward, ROWS * 4, processing_class=byte_tokenizer(), peft_config=lora)
    assert made.args.model.lora_alpha == alpha
    from trainer.models import Policies

    model = made.args.model
    policies = Policies.create(model, ("a",), tokenizer=byte_tokenizer(), models={model.name: qwen3()})
    layer: Any = policies.bases[0].network.model.layers[0].self_attn.q_proj
    assert (
        layer.scaling["a"] == get_peft_model(qwen3(), lora).base_model.model.model.layers[0].self_attn.q_proj.scaling["default"]
    )
    assert layer.scaling["a"] == scale


def test_what_an_adapter_is_asked_for_beyond_that() -> None:
    for options, error, message in (
        ({"task_type": "SEQ_CLS"}, ValueError, "peft_config.task_type: expected CAUSAL_LM or None, got 'SEQ_CLS'"),
        ({"r": 4.0}, TypeError, "peft_config.r: expected a whole number, got 4.0"),
        ({"lora_alpha": "8"}, TypeError, "peft_config.lora_alpha: expected a number, got '8'"),
        ({"use_rslora": True}, NotImplementedError, "peft_config.use_rslora: expected False, got True"),
    ):
        lora = LoraConfig(**{"target_modules": "all-linear"} | options)
        with pytest.raises(error, match=message):
            VRGRPOTrainer(NETWORK, None, reward, ROWS * 4, processing_class=byte_tokenizer(), peft_config=lora)
