"""A configuration is read back as it was written; what is wrong with one says where, which key, and what was meant."""

import re
import time
from pathlib import Path

import pytest

from trainer.config import DataConfig, TrainConfig
from trainer.memory import MemoryConfig
from trainer.parts_of import rl_config
from trainer.setting import hima_ecom_setting

ROOT = Path(__file__).resolve().parents[2]


def test_written_and_read_back(tmp_path: Path) -> None:
    changes = ["seed=3", "learner.betas=[0, 0.95]", "memory=null", "model.bases={master: big}", "sft.trains=policies"]
    config = TrainConfig.load(None, [*changes, "learner.max_grad_norm=.inf", "data.languages=[zh]", "model.target_modules=[q]"])
    assert config.learner.betas == (0.0, 0.95)
    assert isinstance(config.learner.betas[0], float)
    assert (config.memory, config.model.bases, config.data.languages) == (None, {"master": "big"}, ("zh",))
    config.save(tmp_path / "config.yaml")
    again = TrainConfig.load(tmp_path / "config.yaml")
    assert again == config
    assert again.to_yaml() == config.to_yaml()
    assert TrainConfig.load() == TrainConfig()


def test_overrides_go_over_the_file_one_after_another(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("memory: null\nlearner:\n  learning_rate: 1e-3\n  kl_coef: 1\n")
    config = TrainConfig.load(path, ["memory.m=2", "learner.kl_coef=0.5", "learner.kl_coef=2E-1"])
    assert config.memory == MemoryConfig(m=2)
    assert (config.learner.learning_rate, config.learner.kl_coef) == (1e-3, 0.2)
    assert config.differs(TrainConfig.load(path), ignore=["memory"]) == ["learner: kl_coef 0.2 and 1.0"]
    path.write_text("# nothing\n")
    assert TrainConfig.load(path) == TrainConfig()


BAD = {
    "learner:\n  learning_rat: 1\n": r"a.yaml:2: learner.learning_rat: no such key; did you mean learning_rate\?$",
    "# x\n\nlerner: {}\n": r"a.yaml:3: lerner: no such key; did you mean learner\?$",
    "zzz: 1\n": r"a.yaml:1: zzz: no such key; expected one of output_dir, seed, ",
    "seed: 1\nseed: 2\n": r"a.yaml:2: seed: expected once, got twice$",
    "seed: one\n": r"a.yaml:1: seed: expected a whole number, got 'one'$",
    "seed: true\n": r"a.yaml:1: seed: expected a whole number, got True$",
    "max_steps: 1.5\n": r"a.yaml:1: max_steps: expected a whole number or null, got 1.5$",
    "rl:\n  eps: high\n": r"a.yaml:2: rl.eps: expected a number, got 'high'$",
    "rl:\n  select: all\n": r"a.yaml:2: rl.select: expected 'batch' or 'query' or 'agent', got 'all'$",
    "rl: 3\n": r"a.yaml:1: rl: expected a mapping, got 3$",
    "data:\n  columns: qa\n": r"a.yaml:2: data.columns: expected a list of texts, got 'qa'$",
    "learner:\n  betas: [0]\n": r"a.yaml:2: learner.betas: expected a list of 2 numbers, got \[0\]$",
    "rl:\n  group_size: 0\n": r"a.yaml:2: rl.group_size: expected at least 1, got 0$",
    "limits:\n  nodes: 0\n": r"a.yaml:2: limits.nodes: expected at least 1, got 0$",
    "sft:\n  epochs: null\n": r"a.yaml:1: sft: epochs, seconds: expected at least one of them, got None for both$",
    "sampling:\n  temperature: 0.5\n": r"^learner.temperature: expected that of sampling, 0.5, got 1.0$",
    "- 1\n": r"a.yaml: expected a mapping of keys to values, got tuple$",
    "a: [\n": r"a.yaml: expected YAML: ",
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_wrong_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ValueError, match=BAD[text]):
        TrainConfig.load(tmp_path / "a.yaml")


CHANGES = {
    "seed": r"'seed': expected key=value",
    ".a=1": r"expected key=value",
    "memory.mm=1": r"'memory.mm=1': memory.mm: no such key; did you mean m\?",
    "engine=sglang": r"'engine=sglang': engine: expected 'local' or 'vllm', got 'sglang'",
    "vllm.block_size=0": r"vllm.block_size: expected a finite number > 0, got 0",
    "local.token_budget=-1": r"local.token_budget: expected a finite number > 0, got -1",
    "data.columns=[qa, law]": r"data.columns: expected some of cooperation, qa, efc, gfc, math, each once, got \('qa', 'law'\)",
    "data.max_difficulty=4": r"data.max_difficulty: expected 1, 2 or 3, got 4",
    "sft.memory=2": r"sft.memory: expected a share in \[0, 1\], got 2.0",
    "sft.batch_tokens=0": r"sft.batch_tokens: expected ",
    "model.bases={qa: x}": r"sft.trains: expected 'policies' where agents have bases of their own, got 'base'",
    "max_steps=null": r"max_steps, max_seconds: expected at least one of them",
    "output_dir=''": r"output_dir: expected a folder, got ''",
    "save_total_limit=0": r"save_total_limit: expected ",
    "rl.format=0": r"memory.reward_max: expected 1 \+ rl.format = 1, the highest R_A \+ R_F, got 2",
    "rl={continuation: false, trained_agents: [qa]}": r"rl.continuation: expected True with trained_agents, got False",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_wrong_override_is_named(change: str) -> None:
    with pytest.raises(ValueError, match=CHANGES[change]):
        TrainConfig.load(None, [change])


def test_a_schedule_ends_with_the_run() -> None:
    rates = rl_config(TrainConfig.load(None, ["learner.schedule=linear", "learner.learning_rate=1", "max_steps=4"]))
    assert [rates.rate(step) for step in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]
    short = rl_config(TrainConfig.load(None, ["learner={schedule: cosine, warmup_steps: 9}", "max_steps=4"]))
    assert (short.total_steps, short.warmup_steps) == (4, 3)
    longer = TrainConfig.load(None, ["learner={schedule: linear, total_steps: 9}", "max_steps=4"])
    assert rl_config(longer) == longer.learner
    with pytest.raises(ValueError, match=r"learner.total_steps: expected at least max_steps = 10, or null for it, got 9"):
        TrainConfig.load(None, ["learner={schedule: linear, total_steps: 9}", "max_steps=10"])
    with pytest.raises(ValueError, match=r"learner.total_steps: expected a number of steps where max_steps is null, got None"):
        TrainConfig.load(None, ["learner.schedule=linear", "max_steps=null", "max_seconds=9"])


def test_a_temperature_of_zero_has_no_siblings() -> None:
    with pytest.raises(ValueError, match=r"sampling.temperature: expected above 0"):
        TrainConfig.load(None, ["sampling.temperature=0"])


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none.yaml: expected a YAML file, got none"):
        TrainConfig.load(tmp_path / "none.yaml")


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_configurations_that_come_along(path: Path) -> None:
    assert re.fullmatch(f"runs/(real/)?{path.stem}", TrainConfig.load(path).output_dir)


def test_families_are_those_of_the_columns() -> None:
    assert DataConfig(families=("warranty", "discount")).families == ("warranty", "discount")
    with pytest.raises(ValueError, match=r"families: expected some of .*warranty.*, got \['garantie'\]"):
        DataConfig(families=("warranty", "garantie"))
    with pytest.raises(ValueError, match=r"families: expected some of .*, got \['discount'\]"):
        DataConfig(columns=("qa",), families=("discount",))
    with pytest.raises(ValueError, match=r"families: expected some of .*, got \(\)"):
        DataConfig(families=())


def test_rl_goes_through_columns_of_its_own() -> None:
    data = DataConfig(
        world="small", columns=("qa", "math"), rl_columns=("math",), languages=("en",), sft_tasks=2, rl_tasks=3, test_tasks=2
    )
    setting = hima_ecom_setting(data)
    assert [task.column for task in setting.tasks] == ["math"] * 3
    assert [job.column for job in setting.tests] == ["qa"] * 2 + ["math"] * 2
    assert {sample.column for sample in setting.samples(0.0)} == {"qa", "math"}
    for wrong in (("efc",), (), ("qa", "qa")):
        with pytest.raises(ValueError, match="rl_columns: expected some of qa, math, each once, got"):
            DataConfig(columns=("qa", "math"), rl_columns=wrong)


def test_only_chosen_families_are_played() -> None:
    data = DataConfig(
        world="small", columns=("qa",), families=("warranty",), languages=("en",), sft_tasks=2, rl_tasks=3, test_tasks=2
    )
    setting = hima_ecom_setting(data)
    assert [task.family for task in setting.tasks] == ["warranty"] * 3
    assert {sample.family for sample in setting.samples(0.5)} == {"warranty"}


def nested(form: str) -> str:
    """Eight levels of aliases, each ten times the one above: 294 bytes that stand for 10^8 values."""
    levels = [f"l{i}: &{chr(97 + i)} " + form.format(",".join([f"*{chr(96 + i)}"] * 10)) for i in range(1, 9)]
    return "\n".join(["l0: &a {x: 1}", *levels])


ENDLESS = {
    nested("[{}]"): r"a.yaml:1: expected at most 10,000 values with those of aliases, got more$",
    nested("{{<<: [{}]}}"): r"a.yaml:1: expected at most 10,000 values with those of aliases, got more$",
    "seed: &a [*a]": r"a.yaml:1: expected at most 32 levels of nesting, got more$",
    "seed: " + "[" * 50_000: r"a.yaml: expected at most 32 levels of nesting, got more$",
    "#" * 200_000: r"a.yaml: expected at most 131,072 characters, got more$",
    "seed: " + "0" * 16_000 + "x": r"a.yaml:1: seed: expected a whole number, got '0000",
    "seed: " + "9" * 5_000: r"a.yaml:1: seed: expected a whole number of at most 4,000 digits, got '999",
    "max_steps: 9223372036854775808": r"a.yaml:1: max_steps: expected a whole number or null of at most 64 bits, got 922",
    "rl: {eps: 1e999}": r"a.yaml:1: rl.eps: expected a number that a float can hold, got '1e999'$",
    "seed: -1": r"a.yaml:1: seed: expected a whole number from 0 to 2\^63 - 1, got -1$",
    "data: {seed: -1}": r"a.yaml:1: data.seed: expected a whole number from 0 to 2\^63 - 1, got -1$",
    "seed: 18446744073709551616": r"a.yaml:1: seed: expected a whole number of at most 64 bits, got 184",
    "seed: 2001-99-99": r"a.yaml: expected YAML: expected a value of tag:yaml.org,2002:timestamp, got '2001-99-99' .*line 1",
    "seed: !!int ''": r"a.yaml: expected YAML: expected a value of tag:yaml.org,2002:int, got ''",
    "? [a]\n: b": r"a.yaml:1: expected a text as key, got a sequence$",
    "\0": r"a.yaml: expected YAML: unacceptable character",
    'output_dir: "\\UFFFFFFFF"': r"a.yaml: expected YAML: ",
    'output_dir: "\\U00110000"': r"a.yaml: expected YAML: chr\(\) arg not in range",
    f"%YAML {'1' * 5_000}.1\n---\nseed: 1": r"a.yaml: expected YAML: Exceeds the limit",
    'output_dir: "a\\ud800"': r"a.yaml:1: output_dir: expected text that UTF-8 can hold, got 'a\\ud800'$",
    'data:\n  "\\udfff": 1': r"a.yaml:2: expected a key that UTF-8 can hold, got '\\udfff'$",
}


@pytest.mark.parametrize("text", ENDLESS, ids=lambda text: text[:20])
def test_no_file_asks_for_endless_work(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    begin = time.process_time()
    with pytest.raises(ValueError, match=ENDLESS[text]):
        TrainConfig.load(tmp_path / "a.yaml")
    assert time.process_time() - begin < 3


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes("# é\nseed: 1\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a.yaml: expected UTF-8, got an error: 'utf-8' codec can't decode byte 0xe9"):
        TrainConfig.load(tmp_path / "a.yaml")


def test_aliases_and_the_largest_seed_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("seed: 9223372036854775807\nlearner: {learning_rate: &rate 1_0.5e-3}\nsft: {learning_rate: *rate}\n")
    config = TrainConfig.load(path, ["learner.max_grad_norm=.inf"])
    assert (config.seed, config.learner.learning_rate, config.sft.learning_rate) == (2**63 - 1, 0.0105, 0.0105)
    assert config.learner.max_grad_norm == float("inf")
