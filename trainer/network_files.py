"""Parameters of a file in the place of a network's own."""

from pathlib import Path
from typing import Any


def put(folder: Path, mine: dict[str, Any], saved: dict[str, Any]) -> None:
    """Copy `saved` into `mine`, both by name. Raises: ValueError unless they are the same parameters of the same shapes."""
    different = sorted(mine.keys() ^ saved.keys()) or [n for n in mine if mine[n].shape != saved[n].shape]
    if different:
        name = different[0]
        shapes = [list(tensors[name].shape) if name in tensors else "none" for tensors in (mine, saved)]
        raise ValueError(f"{folder}: expected {name} of shape {shapes[0]}, got {shapes[1]} ({len(different)} differ)")
    for name, tensor in mine.items():
        tensor.copy_(saved[name])
