"""A result is kept for exactly as long as it holds."""

import gc
import weakref

import torch

from himakernels.once import once


class _Value:
    pass


@once
def _make(first: torch.Tensor, second: torch.Tensor | None, number: int) -> _Value:
    return _Value()


def test_the_same_arguments_give_the_same_object() -> None:
    a, b = torch.zeros(3), torch.zeros(3)
    value = _make(a, b, 1)
    assert _make(a, b, 1) is value
    assert _make(a, b, 2) is not value
    assert _make(a, None, 1) is not value
    assert _make(a, a, 1) is not value
    value = _make(a, b, 1)
    assert _make(a.clone(), b, 1) is not value
    assert _make(a, b, 1) is value


def test_one_result_is_kept_for_all_that_come_second() -> None:
    a, b = torch.zeros(3), torch.zeros(3)
    gone = weakref.ref(_make(a, b, 1))
    _make(a, torch.zeros(3), 1)
    gc.collect()
    assert gone() is None


def test_another_shape_is_another_tensor() -> None:
    a = torch.zeros(3)
    value = _make(a, None, 1)
    a.data = torch.zeros(4)
    assert _make(a, None, 1) is not value


def test_a_write_to_any_argument_shows() -> None:
    a, b = torch.zeros(3), torch.zeros(3)
    value = _make(a, b, 1)
    b[0] = 1
    assert _make(a, b, 1) is not value
    value = _make(a, b, 1)
    a.view(3).add_(1)
    assert _make(a, b, 1) is not value


def test_another_tensor_under_the_same_id_is_another() -> None:
    a, b = torch.zeros(3), torch.zeros(3)
    value, number = _make(a, b, 1), id(b)
    del b
    for _ in range(100):  # the memory of the object is soon used again
        b = torch.zeros(3)
        if id(b) == number:
            break
    assert _make(a, b, 1) is not value


def test_nothing_outlives_its_tensor() -> None:
    a = torch.zeros(3)
    gone = weakref.ref(_make(a, None, 1))
    assert gone() is not None
    del a
    gc.collect()
    assert gone() is None


def test_tensors_without_versions_are_not_trusted() -> None:
    with torch.inference_mode():
        a = torch.zeros(3)
        assert _make(a, None, 1) is not _make(a, None, 1)
