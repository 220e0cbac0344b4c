"""What the cloud may pick candidates by: events of allowed behaviours before the test period, by session or by user.

DeepRec (WWW 2021) trains its candidate picker on what the business must keep anyway, such as purchases, and on nothing else.
"""

import dataclasses
from collections.abc import Collection, Iterator

import numpy as np

from jaxrec.data.blocks import Histories, SessionBlock, runs, session_blocks
from jaxrec.data.dataset import Dataset


def allowed_events(dataset: Dataset, behaviors: Collection[str] = ()) -> Dataset:
    """Sessions of the periods before the test with their allowed events alone; sessions that keep none are left out.

    An event of such a session that happened after the test period began is left out too. All sessions count as global ones.

    Args:
      behaviors: names of the behaviours; empty: all.

    Raises:
      InputError: the log has no such behaviour.
    """
    sessions = dataset.period("test").start
    stop, cut = int(dataset.offsets[sessions]), dataset.manifest.get("cuts", {}).get("test_from")
    kept = dataset.of_behaviors(behaviors, "allowed_behaviors")[:stop] if behaviors else np.ones(stop, bool)
    if cut is not None:
        kept = kept & (dataset.times[:stop] < cut)
    events = np.flatnonzero(kept)
    ends = np.searchsorted(events, dataset.offsets[: sessions + 1])
    some = np.diff(ends) > 0
    return _of(dataset, events, np.append(0, ends[1:][some]), dataset.users[:sessions][some])


def by_user(allowed: Dataset) -> Dataset:
    """The same events with all of a user's in one session, in order of the sessions they were in; sessions of nobody stay as they are."""
    owner = np.where(allowed.users < 0, allowed.n_users + np.arange(allowed.n_sessions), allowed.users)
    lengths, order = np.diff(allowed.offsets), np.argsort(owner, kind="stable")
    number, place = runs(lengths[order])
    owners, whose = np.unique(owner, return_inverse=True)
    offsets = np.append(0, np.cumsum(np.bincount(whose, lengths, len(owners)).astype(np.int64)))
    users = np.where(owners < allowed.n_users, owners, -1).astype(np.int32)
    return _of(allowed, allowed.offsets[order][number] + place, offsets, users)


class Askers:
    """Users as they stand at the end of some sessions, to ask any model what they would click next."""

    def __init__(self, allowed: Dataset):
        """`allowed` holds all sessions, in order of time within each user."""
        known = np.flatnonzero(allowed.users >= 0)
        users, from_end = np.unique(allowed.users[known][::-1], return_index=True)
        self._last = np.full(allowed.n_users, -1)
        self._last[users] = known[len(known) - 1 - from_end]
        self._dataset = _with_an_end(allowed, np.sort(self._last[users]))
        self._histories = Histories(self._dataset)

    def blocks(self, users: np.ndarray, predictions: int) -> Iterator[SessionBlock]:
        """Blocks of about so many steps, with a row for each of the users who have any session: the last one, with all that came before.

        The one prediction of a row is the one after its last event; what it has to predict is not known, and 0 in the block.
        """
        last = self._last[users]
        for block in session_blocks(self._dataset, last[last >= 0], predictions, self._histories):
            end = block.mask.sum(axis=1, keepdims=True) - 1
            yield block._replace(mask=np.arange(block.mask.shape[1]) == end)


def _with_an_end(dataset: Dataset, sessions: np.ndarray) -> Dataset:
    """The dataset with one more event, of item 0, at the end of the given sessions, and no time that would hide what came before."""
    items = np.insert(dataset.items, dataset.offsets[sessions + 1], 0)
    longer = np.bincount(sessions + 1, minlength=len(dataset.offsets))
    return dataclasses.replace(
        dataset, items=items, times=np.zeros(len(items), np.int64), offsets=dataset.offsets + np.cumsum(longer), behaviors=None
    )


def _of(dataset: Dataset, events: np.ndarray, offsets: np.ndarray, users: np.ndarray) -> Dataset:
    """Some events of a dataset in new sessions, all of them global."""
    items = dataset.items[events]
    return Dataset(
        items=items,
        times=dataset.times[events],
        offsets=offsets,
        users=users,
        period_offsets=(0, *(len(users),) * 3),
        item_counts=np.bincount(items, minlength=dataset.n_items),
        n_users=dataset.n_users,
    )
