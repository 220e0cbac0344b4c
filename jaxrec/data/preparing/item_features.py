"""Item features: what a log says about its items (category, brand ...), one value per item."""

import numpy as np
import pyarrow as pa

from jaxrec.data.preparing.names import Names, by_text, positions

_BITS = 32  # an item and a value in one number


class ItemFeature:
    """One feature of items, gathered from the rows of a log: an item's value is the one it has most often, among equals the first by text.

    Nearly every row of a published log repeats the item's only value; such rows are only counted. The few that disagree are kept as pairs.
    """

    def __init__(self):
        self._names = Names()
        self._value = np.zeros(0, np.int32)  # first value seen of every item, -1 before there is one
        self._count = np.zeros(0, np.int64)  # rows that have it
        self._others = np.zeros(0, np.int64)  # other pairs of item and value
        self._other_counts = np.zeros(0, np.int64)

    def add(self, items: np.ndarray, column: pa.DictionaryArray) -> None:
        """Take in some rows: item codes, [rows], and the text of the feature, null where a row says nothing."""
        values = self._names.codes(column)
        items, values = items[values >= 0], values[values >= 0]
        if not len(items):
            return
        more = max(int(items.max()) + 1 - len(self._value), 0)
        self._value, self._count = np.append(self._value, np.full(more, -1, np.int32)), np.append(self._count, np.zeros(more, np.int64))
        unseen = self._value[items] < 0
        self._value[items[unseen][::-1]] = values[unseen][::-1]  # backwards, so that the first row of an item stays
        agree = self._value[items] == values
        self._count += np.bincount(items[agree], minlength=len(self._count))
        if not agree.all():
            pairs, counts = np.unique((items[~agree].astype(np.int64) << _BITS) | values[~agree], return_counts=True)
            self._others, place = np.unique(np.concatenate([self._others, pairs]), return_inverse=True)
            self._other_counts = np.bincount(place, np.concatenate([self._other_counts, counts])).astype(np.int64)

    def texts(self, items: np.ndarray) -> pa.Array:
        """The value of each of these item codes, null where the log has none."""
        value = np.append(self._value, np.full(int(items.max(initial=-1)) + 1, -1, np.int32))
        disputed, others = self._others >> _BITS, self._others & (1 << _BITS) - 1
        first = np.unique(disputed)
        item = np.concatenate([disputed, first])
        candidate = np.concatenate([others, self._value[first]])
        count = np.concatenate([self._other_counts, self._count[first]])
        rank = positions(by_text(self._names.texts, np.arange(len(self._names))), len(self._names))
        order = np.lexsort((rank[candidate], -count, item))
        best = order[np.diff(item[order], prepend=-1) != 0]
        value[item[best]] = candidate[best]
        chosen = value[items]
        return self._names.texts.take(pa.array(chosen, mask=chosen < 0)).cast(pa.string())
