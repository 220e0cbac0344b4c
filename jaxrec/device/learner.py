"""A device that learns while its user clicks: the cadence of the cloud-client system (Journal of Computer Applications 2022), with a way
back.

    learner = Learner(DeviceModel.load("runs/shop/device"))
    learner.click(12); learner.click(7)
    best = learner.recommend(candidates=[3, 4, 5])
    learner.end_session()                # fine-tunes when enough new clicks came together
    learner.save("me.npz")

After every 50 interactions the device fine-tunes on the sessions that ended since the last time. The last of them are held out first: if
the fine-tuned model predicts these no better, the parameters are rolled back.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxrec.data.own_history import past_of
from jaxrec.device.runtime import DeviceModel, Recommendation
from jaxrec.device.state import read_arrays, state_in, write_arrays
from jaxrec.errors import InputError

EVERY = 50
"""Interactions between two updates, as published."""
HELD_OUT = 0.25
"""Last part of the new sessions that an update is judged by: at least one session, or, of a single one, its last clicks."""


FEWEST = 3
"""Clicks with which there is something to learn from and something to judge by."""


class Update(NamedTuple):
    """What an update came to.

    Attributes:
      kept: whether the parameters are new; False: rolled back.
      before, after: mean loss of the held-out sessions, before and after learning from the others.
    """

    kept: bool
    before: float
    after: float


class Learner:
    """One user on one device, with everything that the user clicked.

    Attributes:
      sessions: sessions that ended, oldest first; they never leave the device.
      running: clicks of the running session.
      learnt: how many sessions were looked at by updates so far.
      updates: how many there were.
    """

    def __init__(
        self,
        device: DeviceModel,
        sessions: Sequence[Sequence[int]] = (),
        every: int = EVERY,
        learning_rate: float | None = None,
        epochs: int | None = None,
        seed: int = 0,
    ):
        """Start with sessions from before, which the parameters know already.

        Args:
          learning_rate, epochs: of an update; None: what helped most users in simulation.
        """
        advised = device.manifest["personal"]
        self.device, self.every, self.seed = device, every, seed
        self.learning_rate = advised["learning_rate"] if learning_rate is None else learning_rate
        self.epochs = advised["epochs"] if epochs is None else epochs
        if self.learning_rate is None or self.epochs is None:
            raise InputError("learning_rate, epochs: expected both; no simulation advised any for this model")
        for session in sessions:
            device.knows(session)  # numbers of no item are refused before anything is learnt from them
        self.sessions, self.running = [list(session) for session in sessions], []
        self.learnt, self.updates = len(self.sessions), 0
        self._past = past_of(self.sessions)

    def click(self, item: int) -> np.ndarray | None:
        """Follow one click; returns the user vector after it, [dim], or None where the device does not know the item.

        -1, an item that the vocabulary does not hold, is not remembered.
        """
        vector = self.device.click(item) if self.device.knows([item])[0] else None
        if item >= 0:
            self.running.append(int(item))
        return vector

    def recommend(self, candidates: Sequence[int] | None = None, exclude_seen: bool = False) -> Recommendation:
        """The best of the candidates, or of all items that the device knows, after the clicks so far."""
        if candidates is None:
            return self.device.recommend_all(self.running, self._past, exclude_seen)
        return self.device.recommend(self.running, candidates, self._past, exclude_seen)

    def end_session(self) -> Update | None:
        """The running session is over; returns what an update came to if one was due. A baked model is never updated."""
        if self.running:
            self.sessions.append(self.running)
            self.running, self._past = [], past_of(self.sessions)
        self.device.new_session()
        due = sum(len(session) for session in self.sessions[self.learnt :]) >= self.every
        return self._update() if due and self.device.learns else None

    def save(self, path: str | Path) -> None:
        """Write parameters, clicks and where the cadence stands, whole or not at all."""
        clicks = [*self.sessions, self.running]
        stand = {
            "learner.items": np.array([item for session in clicks for item in session], np.int64),
            "learner.lengths": np.array([len(session) for session in clicks]),
            "learner.stand": np.array([self.learnt, self.updates]),
        }
        write_arrays(Path(path), self.device.state | stand, self.device.manifest["fingerprint"])

    def restore(self, path: str | Path) -> None:
        """Go on with what `save` wrote.

        Raises:
          InputError: the file is damaged, belongs to another model or was not written by `save`; everything stays as it is.
        """
        found = read_arrays(Path(path), self.device.manifest, "what a learner saved")
        state = state_in(Path(path), found, self.device.manifest)
        if "learner.lengths" not in found:
            raise InputError(f"{path}: expected what a learner saved; got personal parameters alone")
        *sessions, running = (part.tolist() for part in np.split(found["learner.items"], np.cumsum(found["learner.lengths"])[:-1]))
        before, hidden, clicks = self.device.state, self.device.hidden, self.running
        self.device.state, self.running = state, []
        self.device.new_session()
        try:
            for item in running:
                self.click(item)
        except InputError:
            self.device.state, self.device.hidden, self.running = before, hidden, clicks
            raise
        self.sessions, self._past = sessions, past_of(sessions)
        self.learnt, self.updates = map(int, found["learner.stand"])

    def _update(self) -> Update | None:
        """Learn from the first new sessions, look at the last ones, then learn from all of them or go back; None: too little to do both."""
        device, start = self.device, self.device.state
        known = [[item for item, there in zip(own, device.knows(own), strict=True) if there] for own in self.sessions[self.learnt :]]
        new = [session for session in known if len(session) > 1]
        if sum(map(len, new)) < FEWEST:
            return None
        early, late = _apart(new)
        seed = self.seed + self.updates
        self.learnt, self.updates = len(self.sessions), self.updates + 1
        before = after = device.loss_on(late, seed)
        try:
            device.train_on(early, self.learning_rate, self.epochs, seed)
            after = device.loss_on(late, seed)
            device.state = start
            if after < before:
                device.train_on(new, self.learning_rate, self.epochs, seed)
        except InputError:  # an update that is not finite is worse than none
            device.state, after = start, float("inf")
        return Update(after < before, before, after)


def _apart(sessions: list[list[int]]) -> tuple[list[list[int]], list[list[int]]]:
    """(sessions to learn from, sessions to judge by)."""
    if len(sessions) == 1:
        (only,) = sessions
        cut = len(only) - max(1, round(HELD_OUT * len(only)))
        return [only[:cut]], [only[cut - 1 :]]
    early = len(sessions) - max(1, round(HELD_OUT * len(sessions)))
    return sessions[:early], sessions[early:]
