"""The simulated shop as a dataset without files, for tests that only need its sessions."""

import numpy as np

from jaxrec.data.dataset import Dataset
from jaxrec.data.shop import Shop


def shop_dataset(shop: Shop, personal_from: float = 0.7, test_from: float = 0.85) -> Dataset:
    """Sessions of the shop in three periods, cut at fractions of the events in time order; item and user indices are the shop's numbers."""
    cuts = np.quantile(shop.times, [personal_from, test_from], method="lower")
    first = np.flatnonzero(np.diff(shop.sessions, prepend=-1))
    period = np.searchsorted(cuts, shop.times[first], side="right")
    order = np.lexsort((shop.times[first], period))
    lengths = np.bincount(shop.sessions)[order]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    events = np.repeat(first[order] - offsets[:-1], lengths) + np.arange(len(shop.items))
    return Dataset(
        items=shop.items[events].astype(np.int32),
        times=shop.times[events],
        offsets=offsets,
        users=shop.users[first][order].astype(np.int32),
        period_offsets=tuple(int(n) for n in np.searchsorted(period[order], np.arange(4))),
        item_counts=np.bincount(shop.items[events][: offsets[np.searchsorted(period[order], 1)]], minlength=shop.n_items),
        n_users=len(shop.favourites),
    )
