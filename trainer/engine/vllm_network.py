"""One network of the trainer inside vLLM, in this process: its start, its adapters or its weights, and what is asked of it.

vLLM is imported when a network starts. What it changes of the process on the way is put back: random states, the number of
threads and `torch.set_num_threads`. It loads a network from a folder; tokenizers never get there, only token ids.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from himakernels.checks import check_positive
from trainer.engine.base import SamplingParams
from trainer.engine.requests import limits_of
from trainer.network import Base

_DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
_FORWARD = 4096  # tokens of a forward, at least
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM has room for
# In this process (functions then reach the model), quiet, without reports to anybody, and no pinning of the trainer's threads.
_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
_numbers = count(1)  # of adapters, over all engines: what one is called is never used twice


@dataclass(frozen=True, kw_only=True)
class VLLMConfig:
    """How vLLM runs beside the trainer."""

    kv_cache_gib: float = 1.0  # keys and values of each network; of a prompt as long as the model allows at least
    block_size: int = 32  # tokens whose keys and values are cached together; on a CPU a multiple of 32
    max_model_len: int | None = None  # prompt and answer together; None: the model's positions
    max_num_seqs: int = 256  # samples that are decoded together
    enforce_eager: bool | None = None  # no graphs, no compilation; None: so on a CPU
    # rms of what the log-probabilities of the probe may be off by; None: 5e-4 in float32, 0.25 in bfloat16
    probe_tolerance: float | None = None

    def __post_init__(self) -> None:
        for name in ("kv_cache_gib", "block_size", "max_model_len", "max_num_seqs", "probe_tolerance"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))


class Wanted(NamedTuple):
    """One sample that is wanted of a policy."""

    prompt: tuple[int, ...]
    limit: int
    policy: str
    seed: int


class Answer(NamedTuple):
    """One sample. cached: how many tokens of its prompt were not computed."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    cached: int


def check_vllm() -> None:
    """Raises: ImportError where vLLM is not installed."""
    if find_spec("vllm") is None:
        raise ImportError(
            "engine: expected vLLM to be installed for engine=vllm, got none; it wants an environment of its own "
            "(`make test-vllm` makes one, .venv-vllm), or take engine=local"
        )


class VLLMNetwork:
    """A network that generates through vLLM, with weights as they were last published.

    Args:
        base: the trainer's network. With adapters, vLLM keeps the frozen part and gets each policy's adapter; without, it gets
            all weights again after each update.
        folder: for what vLLM is to load; this object's alone.

    Attributes: steps: forwards so far.

    Raises: ValueError for a network that vLLM can't load.
    """

    def __init__(self, base: Base, config: VLLMConfig, folder: Path) -> None:
        if base.dtype not in _DTYPES:
            raise ValueError(f"model.dtype: expected float32 or bfloat16 for engine=vllm, got {base.dtype}")
        self.base, self.config, self.folder = base, config, folder
        self.steps = 0
        self._temperature = 1.0
        self._loras: dict[str, Any] = {}
        self._write()
        with _process_kept():
            os.environ |= _ENVIRONMENT
            os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
            self._vllm = _imported()
            self.llm = self._started()
        self.on_cpu: bool = self._vllm.platforms.current_platform.is_cpu()
        self.llm.apply_model(self._watch)

    def publish(self, policy: str) -> None:
        """Gives vLLM the present weights of a policy; nothing that it computed with older ones is met again.

        Raises: RuntimeError where vLLM keeps blocks of the old weights.
        """
        if not self.base.adapters:
            self._write()
            self.llm.collective_rpc("reload_weights")
            if self.on_cpu and self.base.network.config.get_text_config(decoder=True).tie_word_embeddings:
                self.llm.apply_model(_renew_head)
            self.reset()
            return
        old, number = self._loras.get(policy), next(_numbers)
        folder = self.folder / f"{policy}-{number}"
        self.base.save(policy, folder)
        request = self._vllm.lora.request.LoRARequest(f"{policy}-{number}", number, str(folder))
        # The name is part of what finds a cached block, so a new one finds nothing that an older adapter computed.
        self.llm.llm_engine.add_lora(request)
        self._loras[policy] = request
        if old is not None:
            self.llm.llm_engine.remove_lora(old.lora_int_id)
            shutil.rmtree(old.lora_path)

    def reset(self) -> None:
        """Nothing is cached afterwards. Raises: RuntimeError if vLLM refuses."""
        if not self.llm.reset_prefix_cache():
            raise RuntimeError("vLLM: expected an empty prefix cache after reset_prefix_cache(), got one with blocks in use")

    def generate(self, asked: Sequence[Wanted], params: SamplingParams) -> list[Answer]:
        """A sample for each, with log softmax(logits / temperature) of its tokens (at temperature 0: of temperature 1)."""
        greedy = params.temperature == 0
        how = [
            self._vllm.SamplingParams(
                max_tokens=one.limit,
                temperature=0.0 if greedy else 1.0,  # the logits come divided by it
                top_k=params.top_k,
                top_p=params.top_p,
                min_p=params.min_p,
                stop_token_ids=list(params.stop_token_ids),
                ignore_eos=True,  # only `stop_token_ids` end a sample
                seed=one.seed,
                logprobs=0,  # of the sampled token alone
                flat_logprobs=True,
                detokenize=False,
            )
            for one in asked
        ]
        answers = []
        for output in self._run(asked, how, 1.0 if greedy else params.temperature):
            (said,) = output.outputs
            if said.finish_reason not in ("stop", "length"):
                raise RuntimeError(f"vLLM: expected a sample to end by 'stop' or 'length', got {said.finish_reason!r}")
            tokens, flat = tuple(said.token_ids), said.logprobs
            assert tokens == tuple(flat.token_ids[begin] for begin in flat.start_indices)
            logprobs = tuple(flat.logprobs[begin] for begin in flat.start_indices)
            answers.append(Answer(tokens, logprobs, output.num_cached_tokens or 0))
        return answers

    def logprobs(self, policy: str, prompt: tuple[int, ...], token_ids: Sequence[int]) -> list[float]:
        """Of each of the tokens, as the first after a prompt."""
        how = self._vllm.SamplingParams(
            max_tokens=1, temperature=0.0, logprob_token_ids=list(token_ids), ignore_eos=True, detokenize=False
        )
        (output,) = self._run([Wanted(prompt, 1, policy, 0)], [how], 1.0)
        of = {token: scored.logprob for token, scored in output.outputs[0].logprobs[0].items()}
        return [of[token] for token in token_ids]

    def _run(self, asked: Sequence[Wanted], how: list[Any], temperature: float) -> list[Any]:
        self._temperature = temperature
        loras = [self._loras[one.policy] for one in asked] if self.base.adapters else None
        prompts = [{"prompt_token_ids": list(one.prompt)} for one in asked]
        with torch.random.fork_rng():  # vLLM draws from the global generator, although every sample has its own
            outputs: list[Any] = self.llm.generate(prompts, how, lora_request=loras, use_tqdm=False)
        return outputs

    def _write(self) -> None:
        """What vLLM loads: the frozen part under adapters, or all weights."""
        if self.base.adapters:
            self.base.save_frozen(self.folder / "model")
        else:
            self.base.network.save_pretrained(self.folder / "model")

    def _started(self) -> Any:
        config, base = self.config, self.base
        options: dict[str, Any] = {}
        if base.adapters:
            rank = max(lora.r for lora in base.model.peft_config.values())  # type: ignore[union-attr]
            room = next((size for size in _RANKS if size >= rank), None)
            if room is None:
                raise ValueError(f"model.lora_rank: expected at most {_RANKS[-1]} for engine=vllm, got {rank}")
            options = {"enable_lora": True, "max_loras": len(base.policies), "max_lora_rank": room}
        cpu = self._vllm.platforms.current_platform.is_cpu()
        if cpu:
            # A prompt that is cut between two forwards takes back what its generator drew, which generators on a CPU can't.
            whole = config.max_model_len or limits_of("", base.network.config).positions or _FORWARD
            options |= {"enable_chunked_prefill": False, "max_num_batched_tokens": max(whole, _FORWARD)}
        try:
            return self._vllm.LLM(
                model=str(self.folder / "model"),
                skip_tokenizer_init=True,
                generation_config="vllm",  # nothing of how the model's authors sample
                dtype=_DTYPES[base.dtype],
                enable_prefix_caching=True,
                block_size=config.block_size,
                kv_cache_memory_bytes=int(config.kv_cache_gib * 2**30),
                max_model_len=config.max_model_len,
                max_num_seqs=config.max_num_seqs,
                enforce_eager=cpu if config.enforce_eager is None else config.enforce_eager,
                logprobs_mode="raw_logprobs",  # before top-k and the like, in fp32
                disable_log_stats=True,
                use_tqdm_on_load=False,
                seed=0,
                **options,
            )
        except Exception as error:
            kind = base.network.config.model_type
            raise ValueError(f"model: expected one that vLLM can load, got model_type {kind!r}: {error}") from error

    def _watch(self, model: Any) -> None:
        """Counts forwards, and divides logits by the temperature: "raw" log-probabilities are then those of sampling."""
        inner: Callable[..., torch.Tensor | None] = model.compute_logits

        def compute_logits(*args: Any, **kwargs: Any) -> torch.Tensor | None:
            logits = inner(*args, **kwargs)
            self.steps += 1
            return logits if logits is None or self._temperature == 1 else logits.float() / self._temperature

        model.compute_logits = compute_logits


def _imported() -> Any:
    """vLLM, with the modules that are used. Raises: ImportError."""
    check_vllm()
    import vllm
    import vllm.lora.request
    import vllm.platforms

    return vllm


def _renew_head(model: Any) -> None:
    """On a CPU vLLM multiplies with a packed copy of the head; where that is the embeddings, a reload leaves it as it was."""
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

    dispatch_cpu_unquantized_gemm(model.lm_head, remove_weight=False)


@contextmanager
def _process_kept() -> Iterator[None]:
    """Afterwards random states, threads and torch's functions are as before."""
    python, array = random.getstate(), np.random.get_state()  # noqa: NPY002 - vLLM seeds it
    set_threads, threads = torch.set_num_threads, torch.get_num_threads()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(array)  # noqa: NPY002
            torch.set_num_threads = set_threads
            torch.set_num_threads(threads)
