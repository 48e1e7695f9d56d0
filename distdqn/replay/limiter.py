"""Holds the ratio of windows sampled to transitions stored, from both sides, by arithmetic alone."""

import math

from distdqn.types import State

FEW = 16
"""Inserts in flight that need no bound."""


class SamplesPerInsert:
    """How many transitions and how many samples may be asked for now, calls in flight counted.

    As Reverb's `SampleToInsertRatio` (Cassirer et al. 2021, arXiv:2102.04736), but it never blocks: its
    caller asks for room, reserves, and commits when the call has ended.

    *Filling*: until `min_size` transitions are stored nothing may be sampled. After that the *balance*

        balance = ratio * (transitions inserted after filling) - (windows sampled)

    stays in [-bound, slack] in whatever order the calls end: an insert is admitted only if the balance stays below
    `window` <= slack were all inserts in flight stored and no sample drawn, a sample only if it stays above -bound in
    the opposite case. With the largest single requests Q = `insert_quantum` and B = `sample_quantum`, and
    `insert_depth` and `sample_depth` of them in flight at once,

        slack = ratio * Q * insert_depth + B * sample_depth
        bound = min(slack, ratio * max(min_size, 16 * Q) + B * sample_depth).

    A thousand actors have rollouts of a million transitions in flight, which `slack` has to allow for, where they are
    slower than the learner: the balance is negative then, and not below -bound. Where they are faster, the balance
    would come to rest near the slack, a million transitions ahead of the learner. So the window follows what the
    learner takes: an insert that ends while the balance is above `bound` takes half of what it earned off the window,
    down to `bound`, any other adds what it earned, up to the slack. The balance then stays around `bound`, what the
    replay was filled with before learning began, give or take what the learner draws while a rollout is played. In a
    small system bound and window are the slack.

    Why it cannot deadlock: with nothing in flight and no filling, an insert of Q is refused only if ratio * Q > window
    - balance and a sample of B only if B > bound + balance; both would mean ratio * Q + B > window + bound, while both
    are at least `bound`, which is at least ratio * Q and at least B. While filling, with nothing in flight, the balance
    is at most 0, so that there is room for window / ratio >= Q transitions.
    """

    def __init__(
        self,
        ratio: float,
        min_size: int,
        insert_quantum: int,
        sample_quantum: int,
        insert_depth: int = 1,
        sample_depth: int = 1,
    ) -> None:
        if not ratio > 0 or min(min_size, insert_quantum, sample_quantum, insert_depth, sample_depth) < 1:
            raise ValueError("ratio must be above 0, min_size, the quanta and the depths at least 1")
        self.ratio, self.min_size = ratio, min_size
        self.slack = ratio * insert_quantum * insert_depth + sample_quantum * sample_depth
        few = ratio * max(min_size, FEW * insert_quantum) + sample_quantum * sample_depth
        self.bound = self.window = min(self.slack, few)
        self.inserted = 0
        """Transitions ever stored."""
        self.sampled = 0
        """Windows ever drawn."""
        self.filled = 0
        """Of the transitions stored, those that filled the replay up to `min_size` and earned no samples."""
        self.balance = 0.0
        """Windows that the transitions stored have earned beyond those drawn; negative: drawn ahead."""
        self._to_fill = min_size
        self._inserts_in_flight = self._samples_in_flight = 0

    @property
    def filling(self) -> bool:
        """True while fewer than `min_size` transitions are stored."""
        return self._to_fill > 0

    @property
    def samples_per_insert(self) -> float:
        """What the ratio has come to: windows drawn by transitions stored beyond filling, 0 before."""
        return self.sampled / max(1, self.inserted - self.filled)

    def room_to_insert(self) -> int:
        """Transitions that may be asked for now."""
        earned = (self.window - self.balance) / self.ratio
        return max(0, math.floor(self._to_fill + earned) - self._inserts_in_flight)

    def room_to_sample(self) -> int:
        """Windows that may be drawn now."""
        return 0 if self.filling else max(0, math.floor(self.balance + self.bound) - self._samples_in_flight)

    def reserve_insert(self, n: int) -> None:
        """Counts a call in flight that may bring up to `n` transitions; ValueError without room."""
        if not 0 <= n <= self.room_to_insert():
            raise ValueError(f"cannot reserve {n} transitions: there is room for {self.room_to_insert()}")
        self._inserts_in_flight += n

    def commit_insert(self, n: int, reserved: int) -> None:
        """A call that had reserved `reserved` has stored `n` of them, 0 where it failed."""
        if not 0 <= n <= reserved <= self._inserts_in_flight:
            raise ValueError(f"{n} of {reserved} transitions reserved, {self._inserts_in_flight} in flight")
        self._inserts_in_flight -= reserved
        fill = min(n, self._to_fill)
        self._to_fill -= fill
        earned = self.ratio * (n - fill)
        self.balance += earned
        self.window += earned if self.balance <= self.bound else -earned / 2
        self.window = min(max(self.window, self.bound), self.slack)
        self.inserted += n
        self.filled += fill

    def reserve_sample(self, n: int) -> None:
        """Counts a call in flight that may draw up to `n` windows; ValueError without room."""
        if not 0 <= n <= self.room_to_sample():
            raise ValueError(f"cannot reserve {n} samples: there is room for {self.room_to_sample()}")
        self._samples_in_flight += n

    def commit_sample(self, n: int, reserved: int) -> None:
        """A call that had reserved `reserved` has drawn `n` of them, 0 where it failed."""
        if not 0 <= n <= reserved <= self._samples_in_flight:
            raise ValueError(f"{n} of {reserved} samples reserved, {self._samples_in_flight} in flight")
        self._samples_in_flight -= reserved
        self.balance -= n
        self.sampled += n
        self._forgive()

    def refill(self, stored: int) -> None:
        """The replay now holds `stored` transitions, whatever was counted: after a resume or a lost shard. Below
        `min_size` sampling waits for the rest, which earns no samples, and samples earned before are forgiven: the
        ratio goes on from there without a burst to catch up."""
        # Inserts in flight that were admitted as filling must go on counting as such.
        self._to_fill = max(self.min_size - stored, min(self._to_fill, self._inserts_in_flight))
        self._forgive()

    def state(self) -> State:
        """Counters and balance; calls in flight are not part of it."""
        return {
            "inserted": self.inserted,
            "sampled": self.sampled,
            "filled": self.filled,
            "balance": self.balance,
            "to_fill": self._to_fill,
        }

    def restore(self, state: State) -> None:
        """Takes over a `state()`, with nothing in flight; call `refill` next with what the replay holds. The balance is
        kept, not recomputed from the counters, and held to this limiter's range: a run that goes on with another ratio
        or batch size neither waits for old debts nor catches up on them."""
        self.inserted, self.sampled, self.filled = (int(state[k]) for k in ("inserted", "sampled", "filled"))
        self.balance = min(max(float(state["balance"]), -self.bound), self.slack)
        self._to_fill = int(state["to_fill"])
        self._inserts_in_flight = self._samples_in_flight = 0
        self._forgive()

    def _forgive(self) -> None:
        """While filling, drops what was earned, but for what samples still in flight may need."""
        if self.filling:
            self.balance = min(self.balance, max(0.0, self._samples_in_flight - self.bound))
