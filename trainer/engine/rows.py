"""Keys and values of rows that decode in step, preallocated, and the masks that go with their layout.

The slots of a row are: [0, prefix) what all rows share, [prefix, start) the rest of its prompt, left-padded, then its own
tokens. So all rows write the same slot next, and a token's position is its slot less the row's padding. Keys are stored
rotated, so where they stand does not matter; the masks go by positions.
"""

from typing import Any

import torch
from transformers import Cache, PreTrainedModel


class RowCache(Cache):
    """Keys [rows, Hk, slots, D] and values [rows, Hk, slots, Dv] of every layer, of which the slots [0, length) are written.

    A forward writes in place, from `length` on; `length` is moved by whoever called it, since all layers write the same slots.
    """

    def __init__(self, rows: int, slots: int) -> None:
        super().__init__(layers=[])
        self.rows, self.slots, self.length = rows, slots, 0
        self.stored: list[tuple[torch.Tensor, torch.Tensor]] = []

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What a layer's attention calls: takes [rows, Hk, q, D], returns views of all written slots and these."""
        keys, values = self._layer(layer_idx, key_states, value_states)
        end = self.length + key_states.shape[2]
        keys, values = keys[: self.rows, :, :end], values[: self.rows, :, :end]
        keys[:, :, self.length :] = key_states
        values[:, :, self.length :] = value_states
        return keys, values

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.length

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def copy_from(
        self, other: "RowCache", start: int, end: int, at: int, into: Any = slice(None), rows: Any = slice(None)
    ) -> None:
        """Slots [start, end) of `other`'s `rows` (one row serves all) go to the slots from `at` of this cache's `into`."""
        for layer, (keys, values) in enumerate(other.stored):
            mine = self._layer(layer, keys, values)
            for target, source in zip(mine, (keys, values), strict=True):
                target[into, :, at : at + end - start] = source[rows, :, start:end]

    def keep(self, holes: torch.Tensor, movers: torch.Tensor, rows: int) -> None:
        """Only `rows` rows go on: those that stood behind, `movers`, take the places `holes` of those that left."""
        for tensor in (t for pair in self.stored for t in pair):
            tensor[holes, :, : self.length] = tensor[movers, :, : self.length]
        self.rows = rows

    def _layer(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if layer == len(self.stored):  # padding may be read, with weight 0, before it is written: zeros
            empty = [t.new_zeros(self.rows, t.shape[1], self.slots, t.shape[3]) for t in (keys, values)]
            self.stored.append((empty[0], empty[1]))
        return self.stored[layer]


class Masks:
    """Additive masks [rows, 1, q, k] of a decoder's kinds of layers, for rows with `padding` [rows] after `prefix` slots.

    Raises: NotImplementedError for layers other than full and sliding attention.
    """

    def __init__(self, model: PreTrainedModel, prefix: int, padding: torch.Tensor) -> None:
        config = model.config.get_text_config(decoder=True)
        window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
        kinds = dict.fromkeys(getattr(config, "layer_types", None) or ["sliding_attention" if window else "full_attention"])
        self.windows = {kind: window if kind == "sliding_attention" else None for kind in kinds}
        self.dtype, self.prefix, self.padding = model.dtype, prefix, padding
        self._seen: torch.Tensor | None = None  # [rows, 1, 1, slots] of a token that comes after all of them

    def positions(self, start: int, end: int) -> torch.Tensor:
        """[rows, end - start] of the tokens in slots that hold no shared prefix; those of padding are 0."""
        slots = torch.arange(start, end, device=self.padding.device)
        return (slots - self.padding[:, None]).clamp_(min=0)

    def block(self, start: int, end: int) -> Any:
        """For queries in the slots [start, end) and keys in [0, end): what `attention_mask` takes."""
        return self._by_kind({kind: self._block(start, end, window) for kind, window in self.windows.items()})

    def step(self, slot: int, slots: int) -> Any:
        """For one query a row, in `slot`, and keys in [0, slot]; `slots` as many as there may come."""
        if self._seen is None:
            places = torch.arange(slots, device=self.padding.device)
            hidden = (places >= self.prefix) & (places < self.prefix + self.padding[:, None])
            self._seen = self._additive(~hidden)[:, None, None]
        seen = self._seen[..., : slot + 1]
        return self._by_kind(
            {
                kind: seen if window is None or window > slot else self._block(slot, slot + 1, window)
                for kind, window in self.windows.items()
            }
        )

    def keep(self, holes: torch.Tensor, movers: torch.Tensor, rows: int) -> None:
        """As RowCache.keep."""
        for name in ("padding", "_seen"):
            tensor = getattr(self, name)
            if tensor is not None:
                tensor[holes] = tensor[movers]
                setattr(self, name, tensor[:rows])

    def _block(self, start: int, end: int, window: int | None) -> torch.Tensor:
        slots = torch.arange(end, device=self.padding.device)
        padding = self.padding[:, None]
        shared = slots < self.prefix
        key_at = torch.where(shared, slots, slots - padding)  # [rows, end]
        real = shared | (slots >= self.prefix + padding)
        query_at = (slots[start:] - padding)[..., None]  # [rows, q, 1]
        seen = real[:, None] & (key_at[:, None] <= query_at)
        if window is not None:
            seen &= key_at[:, None] > query_at - window
        # Padding sees itself: a softmax over nothing is NaN, and its value would reach others with weight 0.
        seen |= slots == slots[start:, None]
        return self._additive(seen)[:, None]

    def _additive(self, seen: torch.Tensor) -> torch.Tensor:
        return torch.zeros(seen.shape, dtype=self.dtype, device=seen.device).masked_fill_(~seen, -torch.inf)

    def _by_kind(self, masks: dict[str, torch.Tensor]) -> Any:
        """Decoders whose layers differ take a mask for each kind, the others one."""
        return masks if len(masks) > 1 else next(iter(masks.values()))
