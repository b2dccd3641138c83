"""Exact vector search by usearch. An agent's keys are few, so no graph is built and nothing can disagree with the rows."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def top(vectors: Floats, queries: Floats, count: int) -> list[list[tuple[int, float]]]:
    """The `count` rows of the largest inner product with each query, best first; equal ones in the order of the rows.

    Each product is computed on its own, so a query's result does not depend on the queries beside it.

    Args:
        vectors: [N, D] fp32.
        queries: [Q, D] fp32.
        count: at most so many rows a query.

    Returns:
        For each query (row, inner product).
    """
    try:  # an optional library: who reads or exports a memory needs it as little as who has none
        from usearch.index import search
    except ImportError as error:
        raise ImportError("retrieval from memory needs usearch: pip install 'himakernels[memory]'") from error
    count = min(count, len(vectors))
    if count == 0 or len(queries) == 0:
        return [[] for _ in queries]
    matches = search(vectors, queries, count, "ip", exact=True, threads=1)
    rows = matches.keys.reshape(len(queries), count).astype(np.int64)
    products = 1 - matches.distances.reshape(len(queries), count)
    found = [list(zip(r, p, strict=True)) for r, p in zip(rows.tolist(), products.tolist(), strict=True)]
    return [sorted(pairs, key=lambda pair: (-pair[1], pair[0])) for pairs in found]
