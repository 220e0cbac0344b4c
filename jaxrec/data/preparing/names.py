"""Names: the texts of ids as they come, chunk by chunk, and a number for each."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute

_STEP = 0x9E3779B97F4A7C15  # the increment of SplitMix64


class Names:
    """Distinct texts in order of their first appearance; the position of a text is its code.

    >>> names = Names()
    >>> names.codes(pa.array(["b", "a", "b"]).dictionary_encode()).tolist()
    [0, 1, 0]
    >>> names.codes(pa.array([None, "c", "a"]).dictionary_encode()).tolist(), names.texts.to_pylist()
    ([-1, 2, 1], ['b', 'a', 'c'])
    """

    def __init__(self):
        self._texts: list[pa.Array] = []
        self._count = 0
        self._key = 0
        self._hashes = np.zeros(0, np.uint64)  # of the texts, ascending
        self._checks = np.zeros(0, np.uint64)  # a second hash of the same texts: equal in both is equal
        self._codes = np.zeros(0, np.int32)

    def __len__(self) -> int:
        return self._count

    @property
    def texts(self) -> pa.Array:
        """All texts, in the order of their codes."""
        self._texts = [pa.concat_arrays([pa.array([], pa.large_string()), *self._texts])]
        return self._texts[0]

    def codes(self, column: pa.DictionaryArray) -> np.ndarray:
        """Code of every row, -1 where there is no text, [rows] int32; texts that are new get the next codes.

        The cost is that of the column, and of one copy of 20 bytes per known text.
        """
        dictionary = column.dictionary.cast(pa.large_string())
        code = self._find_or_add(dictionary)
        # One place more, for rows without a text.
        return np.append(code, np.int32(-1))[np.asarray(column.indices.fill_null(len(code)))]

    def _find_or_add(self, texts: pa.Array) -> np.ndarray:
        """Codes of distinct texts, [texts] int32."""
        hashes, checks = _hashes(texts, self._key)
        order = np.argsort(hashes)  # looked up in order, a million texts meet each known one in the cache
        hashes, checks = hashes[order], checks[order]
        place = np.searchsorted(self._hashes, hashes)
        known = np.zeros(len(hashes), bool)
        inside = place < len(self._hashes)
        known[inside] = self._hashes[place[inside]] == hashes[inside]
        if (self._checks[place[known]] != checks[known]).any() or (hashes[1:] == hashes[:-1]).any():
            return self._with_another_key(texts)
        code = np.empty(len(texts), np.int32)
        code[order[known]] = self._codes[place[known]]
        new = np.sort(order[~known])
        code[new] = np.arange(self._count, self._count + len(new), dtype=np.int32)
        columns = (self._hashes, hashes), (self._checks, checks), (self._codes, code[order])
        self._hashes, self._checks, self._codes = (np.insert(old, place[~known], now[~known]) for old, now in columns)
        self._texts.append(texts.take(pa.array(new)))
        self._count += len(new)
        return code

    def _with_another_key(self, texts: pa.Array) -> np.ndarray:
        """The same after two texts had one hash: with other hashes of all texts."""
        self._key += 1
        everything = self.texts
        hashes, checks = _hashes(everything, self._key)
        order = np.argsort(hashes)
        self._hashes, self._checks, self._codes = hashes[order], checks[order], order.astype(np.int32)
        return self._find_or_add(texts)


def _hashes(texts: pa.Array, key: int) -> tuple[np.ndarray, np.ndarray]:
    """Two independent hashes of 64 bits of every text; plain numbers, as most ids are, have cheap ones."""
    is_number = pa.compute.match_substring_regex(texts, "^(0|[1-9][0-9]{0,17})$")
    numbers = np.asarray(texts.filter(is_number).cast(pa.int64())).astype(np.uint64)
    others = texts.filter(pa.compute.invert(is_number)).to_numpy(zero_copy_only=False)
    place, found = np.asarray(is_number), np.empty((2, len(texts)), np.uint64)
    for part, hashes in enumerate(found):
        hashes[place] = _mixed(numbers + np.uint64((2 * key + part + 1) * _STEP % 2**64))
        hashes[~place] = pd.util.hash_array(others, hash_key=f"{key:015d}{part}", categorize=False)
    return found[0], found[1]


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Each number spread over 64 bits (the finaliser of SplitMix64, Steele et al. 2014)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def by_text(texts: pa.Array, codes: np.ndarray) -> np.ndarray:
    """The codes in order of their texts.

    >>> by_text(pa.array(["b", "c", "a"]), np.array([0, 2])).tolist()
    [2, 0]
    """
    return codes[np.asarray(pa.compute.sort_indices(texts.take(pa.array(codes))))] if len(codes) else codes


def positions(codes: np.ndarray, size: int) -> np.ndarray:
    """Where every code below `size` stands in `codes`, [size] int32; -1 for one that does not.

    >>> positions(np.array([3, 0]), 4).tolist()
    [1, -1, -1, 0]
    """
    found = np.full(size, -1, np.int32)
    found[codes] = np.arange(len(codes), dtype=np.int32)
    return found
