"""One shard of the replay: the ring of segments, their priorities, and sampling from them."""

import numpy as np
import psutil

from distdqn.config import ReplayConfig
from distdqn.packed import Packed
from distdqn.replay.storage import EPOCHS, SegmentRing, pack_keys, ring_spans, unpack_keys
from distdqn.replay.sum_tree import SumTree
from distdqn.types import Batch, Priorities, Segment, ShardStats, nbytes, take

PRIORITY_EPSILON = 1e-6
"""Added to every absolute TD error, so that a window without error can still be drawn."""

_LARGEST_IMPORTANCE = 1e30
_COUNTERS = ("added", "evicted", "sampled", "applied", "stale", "bytes_in", "bytes_out")


class ReplayShard:
    """Stores segments and draws windows from them, each with probability proportional to its weight.

    The weight of a valid start with absolute TD error δ is (|δ| + 1e-6)^alpha (Schaul et al. 2016,
    equation 1, proportional variant), or 1 where `config.kind` is `uniform`; that of an invalid start is 0.

    Arguments:
        config: `kind` and `alpha` are used.
        capacity: transitions that this shard may hold; it keeps the newest `max(1, capacity // T)` segments.
        segment_steps: T, window starts in a segment.
        epoch: tells this shard's keys from those of the one it replaces, 0 to 4095.
        seed: of the draws, together with the number of each.
        stride: transitions that a valid start stands for: 1, or the steps from one sequence to the next.
    """

    def __init__(
        self, config: ReplayConfig, capacity: int, segment_steps: int, epoch: int, seed: int, stride: int = 1
    ) -> None:
        if not 0 <= epoch < EPOCHS:
            raise ValueError(f"epoch={epoch}: must be from 0 to {EPOCHS - 1}")
        self._config, self._epoch, self._stride = config, epoch, stride
        self._ring = SegmentRing(max(1, capacity // segment_steps), segment_steps)
        self._tree = SumTree(self._ring.capacity * segment_steps)
        self._added_by = np.zeros(self._ring.capacity, np.int64)  # `added` right after each segment came
        self._counters = dict.fromkeys(_COUNTERS, 0)
        self._sample_age = 0.0
        self._seed, self._draw = seed, -1
        self._process = psutil.Process()

    def add(self, segments: Segment | Packed, number: int = 0) -> ShardStats:
        """Stores K segments in place of the oldest; more than fit at once are stored and evicted in order. `number` is
        that of the change, for a journal. ValueError, before anything is stored, for a valid start's priority that is
        negative or not finite, and for shapes or dtypes that do not belong together (see `SegmentRing.add`)."""
        self._take(segments)
        return self.stats()

    def _take(self, segments: Segment | Packed) -> None:
        self._store(segments.unpack() if isinstance(segments, Packed) else segments)
        self._counters["bytes_in"] += segments.nbytes if isinstance(segments, Packed) else nbytes(segments)

    def _store(self, segments: Segment) -> None:
        weights = self._weights(segments.priority, segments.valid)
        for start in range(0, len(segments), self._ring.capacity):
            rows = slice(start, start + self._ring.capacity)
            self._add(Segment(**take(segments, rows)), weights[rows])

    def sample(
        self, sizes: tuple[int, ...], beta: float, share: float = 1.0, number: int | None = None
    ) -> tuple[Batch, ShardStats]:
        """`sum(sizes)` windows, drawn independently with replacement; `sizes[m]` of them are for minibatch m. Every
        draw has random numbers of its own, which its `number` decides: asked again it gives the same windows.

        With weight p_i and mass = the sum of this shard's weights, `importance` is (share p_i / mass)^-beta, not
        normalized (Schaul et al. 2016, section 3.4; the factor N^-beta cancels when the learner divides by the
        largest). `share` in (0, 1] is this shard's part of the mass of all shards when its number of draws was decided,
        so that share p_i / mass is the probability over all of them. Uniform: all ones. ValueError for an empty shard,
        a negative size, or a share outside (0, 1].
        """
        if not self._held:
            raise ValueError("the shard is empty: nothing to sample")
        if min(sizes, default=0) < 0:
            raise ValueError(f"sizes={sizes}: must not be negative")
        if not 0 < share <= 1:
            raise ValueError(f"share={share}: must be above 0 and at most 1")
        self._draw = self._draw + 1 if number is None else number
        leaves = self._tree.sample(np.random.default_rng((self._seed, self._draw)).random(sum(sizes)))
        positions, offsets = np.divmod(leaves, self._ring.segment_steps)
        batch = Batch(
            **self._ring.windows(positions, offsets),
            importance=self._importance(leaves, beta, share),
            key=pack_keys(self._epoch, self._ring.insertions(positions), offsets),
            sizes=tuple(sizes),
        )
        self._counters["sampled"] += len(leaves)
        self._counters["bytes_out"] += nbytes(batch)
        if len(leaves):
            self._sample_age = float(np.mean(self._counters["added"] - self._added_by[positions]))
        return batch, self.stats()

    def update_priorities(self, update: Priorities, number: int = 0) -> ShardStats:
        """Gives windows sampled earlier their new absolute TD errors; of equal keys the last one wins.

        Keys of another epoch, of an evicted segment, or that this shard never gave out count as `stale` and
        change nothing. Uniform: counted, values ignored. ValueError, before any is applied, for a priority
        that is negative or not finite: a learner that diverged must not decide what is drawn next. `number` is that of
        the change, for a journal.
        """
        self._update(update)
        return self.stats()

    def _update(self, update: Priorities) -> None:
        if update.key.shape != update.priority.shape:
            raise ValueError(f"key {update.key.shape} and priority {update.priority.shape} differ in shape")
        epoch, insertion, offset = unpack_keys(update.key)
        applied = self._reprioritize(insertion, offset, update.priority, epoch == self._epoch)
        self._counters["applied"] += applied
        self._counters["stale"] += len(update.key) - applied

    def _reprioritize(
        self, insertion: np.ndarray, offset: np.ndarray, priority: np.ndarray, known: np.ndarray | bool = True
    ) -> int:
        """Gives those windows of them that are `known` and held new weights; their number."""
        values = self._weights(priority, np.ones(len(priority), np.bool_))
        steps = self._ring.segment_steps
        known = known & (offset < steps) & self._ring.holds(insertion)
        leaves = (insertion % self._ring.capacity) * steps + np.minimum(offset, steps - 1)
        known &= self._tree.get(leaves) > 0  # an invalid start has no weight and gets none
        if self._config.kind == "prioritized":
            self._tree.set(leaves[known], values[known])
        return int(np.count_nonzero(known))

    def stats(self) -> ShardStats:
        """Figures of now; all counters run since the shard began, `sample_age` is that of the last sample,
        exact: the valid starts added after the sampled one's segment. `nbytes` counts the segments held, the
        tree and the book-keeping, `rss` all of the process but what it shares with others."""
        c, stride = self._counters, self._stride
        return ShardStats(
            transitions=self._held * stride,
            mass=self._tree.total,
            added=c["added"] * stride,
            evicted=c["evicted"] * stride,
            sampled=c["sampled"],
            nbytes=self._ring.nbytes + self._tree.nbytes + self._added_by.nbytes,
            rss=self._resident(),
            sample_age=self._sample_age * stride,
            applied=c["applied"],
            stale=c["stale"],
            bytes_in=c["bytes_in"],
            bytes_out=c["bytes_out"],
        )

    def _forget(self, places: slice) -> None:
        """Takes their weight from the segments at these places of the ring: they are not what they should be."""
        steps = self._ring.segment_steps
        weights = self._tree.leaves[places.start * steps : places.stop * steps]
        self._counters["evicted"] += int(np.count_nonzero(weights))
        self._tree.set_block(places.start * steps, np.zeros(len(weights)))

    def _resident(self) -> int:
        """Memory of this process alone: segments on their way lie in memory that all processes share."""
        memory = self._process.memory_info()
        return int(memory.rss - getattr(memory, "shared", 0))

    @property
    def _held(self) -> int:
        return self._counters["added"] - self._counters["evicted"]

    def _add(self, segments: Segment, weights: np.ndarray) -> None:
        ring, steps = self._ring, self._ring.segment_steps
        positions = ring.add(segments)
        self._counters["evicted"] += int(np.count_nonzero(self._tree.leaves.reshape(-1, steps)[positions]))
        self._added_by[positions] = self._counters["added"] + np.cumsum(np.count_nonzero(weights, axis=1))
        self._counters["added"] += int(np.count_nonzero(weights))
        if len(positions):
            for places, rows in ring_spans(int(positions[0]), len(positions), ring.capacity):
                self._tree.set_block(places.start * steps, weights[rows].reshape(-1))

    def _weights(self, priority: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Weights float64 of absolute TD errors, shaped as `valid`."""
        if self._config.kind == "uniform":
            return valid.astype(np.float64)
        priority = np.where(valid, priority, 0).astype(np.float64)
        if not (np.isfinite(priority).all() and (priority >= 0).all()):
            raise ValueError("priorities must be finite and not negative: they are absolute TD errors")
        return np.where(valid, (priority + PRIORITY_EPSILON) ** self._config.alpha, 0.0)

    def _importance(self, leaves: np.ndarray, beta: float, share: float) -> np.ndarray:
        if self._config.kind == "uniform":
            return np.ones(len(leaves), np.float32)
        probability = share * (self._tree.get(leaves) / self._tree.total)
        # Bounded, because the learner divides by the largest, and inf / inf is not a number.
        with np.errstate(divide="ignore", over="ignore"):
            return np.minimum(probability**-beta, _LARGEST_IMPORTANCE).astype(np.float32)
