"""Children of os.fork: a cache that other threads were using is free and whole, and no op waits for threads that are gone."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from himakernels import _core, group_advantages, paged_attention, token_logprobs, tree_attention, varlen_attention
from himakernels.prefix_cache import PrefixCache
from himakernels.testing import INTERPRET, forest_of, random_depths

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked"),
    pytest.mark.skipif(INTERPRET, reason="the interpreter is no part of this"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
TIMEOUT = 20.0  # seconds; a child takes milliseconds


def fork(child: Callable[[], bool]) -> int:
    """The process id of a child that exits with 0 if `child` returns True."""
    pid = os.fork()
    if pid:
        return pid
    code = 2
    try:
        code = 0 if child() else 1
    finally:
        os._exit(code)


def exit_code(pid: int, deadline: float) -> int | None:
    """None for a child that hangs, which is killed."""
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def exit_codes(pids: list[int]) -> list[int | None]:
    deadline = time.monotonic() + TIMEOUT
    return [exit_code(pid, deadline) for pid in pids]


def test_a_cache_that_is_in_use_at_the_fork() -> None:
    """Threads hold the locks of two caches nearly all the time: of 60 children some dozen found one held."""
    caches = [PrefixCache(4096, 4) for _ in range(2)]
    tokens = [np.random.default_rng(seed).integers(0, 1000, 4000) for seed in range(2)]
    for cache, sequence in zip(caches, tokens, strict=True):
        found = cache.match("qa", 0, sequence)
        cache.insert(found.node, sequence, cache.allocate(1000))
    stop = threading.Event()

    def use(cache: PrefixCache, sequence: np.ndarray) -> None:
        while not stop.is_set():
            cache.unlock(cache.match("qa", 0, sequence).node)
            cache.check_integrity()

    def child() -> bool:
        for cache, sequence in zip(caches, tokens, strict=True):
            found = cache.match("qa", 0, sequence)
            cache.unlock(found.node)
            cache.check_integrity()
            if found.num_cached_tokens != 4000:
                return False
        pid = fork(lambda: PrefixCache(4, 4).stats.free_blocks == 4 and caches[0].match("qa", 0, [1]).num_cached_tokens == 0)
        return exit_code(pid, time.monotonic() + TIMEOUT) == 0

    users = [threading.Thread(target=use, args=pair) for pair in zip(caches, tokens, strict=True)]
    for user in users:
        user.start()
    try:
        codes = exit_codes([fork(child) for _ in range(60)])
    finally:
        stop.set()
        for user in users:
            user.join()
    assert codes == [0] * 60
    assert cached_tokens(caches[0], tokens[0]) == 4000  # the parent's locks are free as well


def cached_tokens(cache: PrefixCache, sequence: np.ndarray) -> int:
    found = cache.match("qa", 0, sequence)
    cache.unlock(found.node)
    return found.num_cached_tokens


def test_a_cache_that_is_gone_is_not_locked() -> None:
    """Caches come and go in any order; a fork locks those that are there."""
    caches = [PrefixCache(4, 4) for _ in range(5)]
    for i in (4, 0, 1, 0, 0):
        del caches[i]
        assert exit_codes([fork(lambda: all(c.stats.free_blocks == 4 for c in caches))]) == [0]
    assert exit_codes([fork(lambda: PrefixCache(4, 4).stats.free_blocks == 4)]) == [0]


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def i32(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


# An op on inputs that are made once: large enough for two threads of ours, and small enough for one of torch's operators,
# which would wait forever.
Op = Callable[[], list[torch.Tensor]]


def attention_of_a_forest() -> Op:
    x, (subtree_end, _) = randn(200, 4, 32), forest_of(random_depths(200))

    def run() -> list[torch.Tensor]:
        q = x.clone().requires_grad_()
        out = tree_attention(q, x, x, subtree_end)
        return [out.detach(), *torch.autograd.grad(out, q, x)]

    return run


def attention_of_sequences() -> Op:
    x = randn(200, 4, 32)
    return lambda: [varlen_attention(x, x, x, i32(0, 70, 200))]


def attention_over_blocks() -> Op:
    q, pool, table = randn(128, 4, 32), randn(32, 16, 2, 32), i32(*range(32)).view(2, 16)
    return lambda: [paged_attention(q, pool, pool, table, i32(0, 64, 128), i32(256, 250))]


def logprobs() -> Op:
    hidden, weight, labels = randn(64, 100), randn(1_100, 100), torch.arange(64)
    return lambda: [token_logprobs(hidden, weight, labels).logprobs]


def advantages() -> Op:
    rewards, groups = randn(70_000), torch.arange(70_000) // 7
    return lambda: [group_advantages(rewards, groups, num_groups=10_000).advantages]


def product() -> Op:
    a, b, c = randn(64, 256), randn(256, 400), randn(64, 400)

    def run() -> list[torch.Tensor]:
        _core.gemm(a.numpy(), "float32", b.numpy(), "float32", c.numpy(), "float32", False, 2)
        return [c]

    return run


@pytest.mark.parametrize(
    "make", [attention_of_a_forest, attention_of_sequences, attention_over_blocks, logprobs, advantages, product]
)
def test_an_op_in_the_child_of_a_process_that_ran_it_on_two_threads(make: Callable[[], Op], two_threads: None) -> None:
    op = make()
    here = [t.numpy().copy() for t in op()]

    def same() -> bool:
        return all(np.array_equal(a.numpy(), b) for a, b in zip(op(), here, strict=True))

    assert exit_codes([fork(same) for _ in range(4)]) == [0] * 4
    assert same()  # the parent has its threads still
