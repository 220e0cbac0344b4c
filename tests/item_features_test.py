"""Names get codes in order of appearance; an item's feature is what most of its rows say."""

from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrec.data.preparing import names as names_module
from jaxrec.data.preparing.item_features import ItemFeature
from jaxrec.data.preparing.names import Names

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["x", "y", "z", None])), max_size=30)


def encoded(texts):
    return pa.array(texts, pa.string()).dictionary_encode()


@settings(max_examples=100, deadline=None)
@given(st.lists(PAIRS, max_size=4))
def test_the_most_frequent_value_wins_among_equals_the_first_by_text(chunks):
    feature = ItemFeature()
    for chunk in chunks:
        feature.add(np.array([item for item, _ in chunk], np.int32), encoded([value for _, value in chunk]))
    expected = []
    for item in range(6):
        counts = Counter(value for chunk in chunks for i, value in chunk if i == item and value is not None)
        expected.append(min(counts, key=lambda value: (-counts[value], value)) if counts else None)
    assert feature.texts(np.arange(6)).to_pylist() == expected


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["7", "0", "70000000", "65536", "12", "007", "-1", "ä", None]), max_size=8), max_size=5))
def test_codes_are_places_of_the_texts(chunks):
    names = Names()
    codes = [names.codes(encoded(chunk)) for chunk in chunks]
    flat = [text for chunk in chunks for text in chunk]
    found = [None if code < 0 else names.texts[int(code)].as_py() for chunk in codes for code in chunk]
    assert found == flat
    assert names.texts.to_pylist() == list(dict.fromkeys(text for text in flat if text is not None))


def test_texts_of_one_hash_get_other_hashes(monkeypatch):
    hashes, seen = names_module._hashes, []

    def weak(texts, key):
        seen.append(key)
        first, second = hashes(texts, key)
        return (first if key > 2 else first % np.uint64(5), second)

    monkeypatch.setattr(names_module, "_hashes", weak)
    names = Names()
    for start in range(0, 40, 4):
        texts = [str(number) for number in range(start, start + 6)]
        assert names.codes(encoded(texts)).tolist() == list(range(start, start + 6))
    assert set(seen) == {0, 1, 2, 3}
