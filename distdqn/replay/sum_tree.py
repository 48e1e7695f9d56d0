"""A sum tree: leaves with weights, drawn in proportion to them (Schaul et al. 2016, appendix B.2.1)."""

import numpy as np


class SumTree:
    """Non-negative weights of `capacity` leaves, all zero at first, and the sums of aligned runs of them.

    One float64 array holds a complete binary tree: the root is node 1, the children of node i are 2i and
    2i + 1, leaf i is node `width + i`, where `width` is the capacity rounded up to a power of two. A parent
    is always recomputed from its children, never corrected by a difference, so that no error piles up.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity={capacity}: must be at least 1")
        self.capacity = capacity
        self._levels = (capacity - 1).bit_length()
        self._width = 1 << self._levels
        self._tree = np.zeros(2 * self._width)

    @property
    def total(self) -> float:
        """The sum of all weights."""
        return float(self._tree[1])

    @property
    def leaves(self) -> np.ndarray:
        """All weights: a read-only view, float64 `[capacity]`."""
        view = self._tree[self._width : self._width + self.capacity]
        view.flags.writeable = False
        return view

    @property
    def nbytes(self) -> int:
        """Bytes of the tree."""
        return self._tree.nbytes

    def get(self, indices: np.ndarray) -> np.ndarray:
        """Weights float64 `[n]` of the leaves `indices` int64 `[n]`; IndexError outside the capacity."""
        return self._tree.take(self._nodes(indices))

    def set(self, indices: np.ndarray, values: np.ndarray) -> None:
        """Sets leaves `indices` int64 `[n]` to `values` `[n]`; of equal indices the last one wins. Nothing is set where
        it raises: IndexError outside the capacity, ValueError for a value that is negative or not finite."""
        nodes, values = self._nodes(indices), _checked(values)
        if nodes.shape != values.shape:
            raise ValueError(f"indices {nodes.shape} and values {values.shape} differ in shape")
        if not len(nodes):
            return
        tree, width = self._tree, self._width
        tree[nodes] = values
        while width > 1:
            width //= 2
            # Two slices are cheaper than an index per node once a level is narrow; wider up, a parent that
            # several nodes share is recomputed for each of them, which is cheaper than making them unique.
            if width <= 2 * len(nodes):
                self._sum_children(width, 2 * width)
            else:
                nodes = nodes >> 1
                children = nodes << 1
                tree[nodes] = tree.take(children) + tree.take(children + 1)

    def set_block(self, start: int, values: np.ndarray) -> None:
        """Sets the leaves from `start` on to `values` `[n]`: contiguous, so each level is two slices. Raises as `set`
        does."""
        values = _checked(values)
        if start < 0 or start + len(values) > self.capacity:
            raise IndexError(f"leaves {start} to {start + len(values) - 1} of {self.capacity}")
        if not len(values):
            return
        first, last = self._width + start, self._width + start + len(values) - 1
        self._tree[first : last + 1] = values
        while first > 1:
            first, last = first // 2, last // 2
            self._sum_children(first, last + 1)

    def sample(self, uniforms: np.ndarray) -> np.ndarray:
        """Leaf indices int64 `[n]` for `uniforms` float64 `[n]` in [0, 1), each drawn as weight / total. A leaf without
        weight is never returned, whatever the rounding: the walk keeps to children with weight, and a node with weight
        has one. ValueError if no leaf has weight or a uniform lies outside [0, 1)."""
        if self.total <= 0:
            raise ValueError("no leaf has weight: nothing to sample")
        uniforms = np.asarray(uniforms, np.float64)
        if len(uniforms) and not (uniforms.min() >= 0 and uniforms.max() < 1):
            raise ValueError("uniforms must lie in [0, 1)")
        rest = uniforms * self.total
        nodes = np.ones(len(uniforms), np.int64)
        for _ in range(self._levels):
            nodes <<= 1
            left = self._tree.take(nodes)
            right = (rest >= left) & (self._tree.take(nodes + 1) > 0)
            rest -= left * right
            nodes += right
        return nodes - self._width

    def _sum_children(self, first: int, stop: int) -> None:
        tree = self._tree
        np.add(tree[2 * first : 2 * stop : 2], tree[2 * first + 1 : 2 * stop : 2], out=tree[first:stop])

    def _nodes(self, indices: np.ndarray) -> np.ndarray:
        indices = np.asarray(indices, np.int64)
        if len(indices) and not (indices.min() >= 0 and indices.max() < self.capacity):
            raise IndexError(f"a leaf outside 0 to {self.capacity - 1}")
        return indices + self._width


def _checked(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if not (np.isfinite(values).all() and (values >= 0).all()):
        raise ValueError("weights must be finite and not negative")
    return values
