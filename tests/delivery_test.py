"""Bytes between cloud and device, worked by hand."""

import pytest

from jaxrec.device.delivery import ANSWER, delivery_bytes


def test_bytes_by_hand():
    """Ten items of two numbers: 4 bytes of bias each, 4 of an index where they are candidates, 4 of a scale where they are int8."""
    found = delivery_bytes(10, 2, (3,))
    pull = {precision: (one["catalogue"], one["3"]) for precision, one in found["pull"].items()}
    assert pull == {"float32": (120, 48), "float16": (80, 36), "int8": (100, 42)}
    assert found["pull"]["float32"]["ratio"]["3"] == pytest.approx(2.5)
    assert found["push"] == {"up": 8, "down": 40}, "as many items come back as there are"


def test_no_more_candidates_travel_than_there_are_items():
    found = delivery_bytes(10, 2, (500,))["pull"]["float32"]
    assert found["500"] == 160 and found["ratio"]["500"] < 1, "with an index each they weigh more than the catalogue"


def test_the_cloud_s_answer_does_not_grow_with_the_catalogue():
    assert delivery_bytes(10**6, 64, (100,))["push"] == {"up": 256, "down": 4 * ANSWER}
