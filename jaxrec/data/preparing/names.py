"""Names: the texts of ids as they come, chunk by chunk, and a number for each."""

import numpy as np
import pyarrow as pa
import pyarrow.compute


class Names:
    """Distinct texts in order of their first appearance; the position of a text is its code.

    >>> names = Names()
    >>> names.codes(pa.array(["b", "a", "b"]).dictionary_encode()).tolist()
    [0, 1, 0]
    >>> names.codes(pa.array([None, "c", "a"]).dictionary_encode()).tolist(), names.texts.to_pylist()
    ([-1, 2, 1], ['b', 'a', 'c'])
    """

    def __init__(self):
        self.texts = pa.array([], pa.large_string())
        # Code of every number, as long as all texts are plain numbers of moderate size: looked up many times faster than texts.
        self._numbers: np.ndarray | None = np.full(1 << 16, -1, np.int32)

    def __len__(self) -> int:
        return len(self.texts)

    def codes(self, column: pa.DictionaryArray) -> np.ndarray:
        """Code of every row, -1 where there is no text, [rows] int32; texts that are new get the next codes."""
        dictionary = column.dictionary.cast(pa.large_string())
        numbers = None if self._numbers is None else _plain_numbers(dictionary)
        if numbers is None:
            self._numbers = None
            code = np.asarray(pa.compute.index_in(dictionary, value_set=self.texts).fill_null(-1)).astype(np.int32)
        else:
            size = 1 << int(numbers.max(initial=0)).bit_length()
            self._numbers = np.append(self._numbers, np.full(max(size - len(self._numbers), 0), -1, np.int32))
            code = self._numbers[numbers]
        new = np.flatnonzero(code < 0)
        code[new] = np.arange(len(self), len(self) + len(new), dtype=np.int32)
        if numbers is not None:
            self._numbers[numbers] = code
        self.texts = pa.concat_arrays([self.texts, dictionary.take(pa.array(new))])
        # One place more, for rows without a text.
        return np.append(code, np.int32(-1))[np.asarray(column.indices.fill_null(len(code)))]


def _plain_numbers(texts: pa.Array) -> np.ndarray | None:
    """The texts as numbers, [texts] int32, where each is the usual text of a number from 0 to 2**26; None otherwise ("007", "x")."""
    try:
        numbers = texts.cast(pa.int32())
    except pa.ArrowInvalid:
        return None
    bounds = pa.compute.min_max(numbers)
    if len(texts) and (bounds["min"].as_py() < 0 or bounds["max"].as_py() >= 1 << 26):
        return None
    return np.asarray(numbers) if numbers.cast(texts.type).equals(texts) else None


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
