"""The simulated shop does what it says: clicks follow the stated process, sessions can be found again, the log can be read."""

import csv
import dataclasses

import numpy as np
import pytest

from jaxrec.data.shop import LONGEST_PAUSE, SHORTEST_GAP, ShopOptions, draw, numbers, write_log
from jaxrec.errors import InputError
from jaxrec.files import partial_path

SMALL = ShopOptions(shop_users=300, shop_departments=6, shop_items_per_department=8)


@pytest.fixture(scope="module")
def shop():
    return draw(SMALL)


def too_far(observed: np.ndarray, expected: np.ndarray) -> float:
    """Chi-square of counts, in standard deviations above its mean (about -3 to 3 when they agree)."""
    freedom = observed.size - 1
    return (((observed - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom)


def test_the_same_options_give_the_same_shop_and_another_seed_another(shop):
    again, other = draw(SMALL), draw(dataclasses.replace(SMALL, shop_seed=2))
    for field in dataclasses.fields(shop):
        assert np.array_equal(getattr(shop, field.name), getattr(again, field.name)), field.name
    assert len(other.items) != len(shop.items) or (other.items != shop.items).any()


def test_what_is_stated_is_a_distribution(shop):
    np.testing.assert_allclose(shop.transition.sum(axis=1), 1)
    np.testing.assert_allclose(shop.transition.sum(axis=0), 1, err_msg="each department is as often a successor")
    np.testing.assert_allclose(shop.start.sum(), 1)
    zipf = 1 / np.arange(8, 0, -1) / (1 / np.arange(1, 9)).sum()
    np.testing.assert_allclose(np.sort(shop.popularity, axis=1), np.tile(zipf, (6, 1)))
    assert (shop.popularity != shop.popularity[0]).any(), "each department has its own order"
    assert (np.sort(shop.transition, axis=1)[:, -4:].sum(axis=1) > 0.9).all()
    assert np.array_equal(shop.favourites // 8, np.tile(np.arange(6), (300, 1)))


def test_departments_follow_the_chain(shop):
    department = shop.items // 8
    same = shop.sessions[1:] == shop.sessions[:-1]
    moves = np.zeros((6, 6))
    np.add.at(moves, (department[:-1][same], department[1:][same]), 1)
    starts = np.bincount(department[np.diff(shop.sessions, prepend=-1) > 0], minlength=6)
    for row, probability in zip([*moves, starts], [*shop.transition, shop.start], strict=True):
        assert too_far(row, probability * row.sum()) < 4


def test_clicks_mix_the_crowd_and_the_favourite(shop):
    department = shop.items // 8
    expected = (1 - shop.loyalty) * shop.popularity[department]
    favourite = shop.favourites[shop.users, department]
    expected[np.arange(len(department)), favourite % 8] += shop.loyalty
    for here in range(6):
        clicks = np.bincount(shop.items[department == here] % 8, minlength=8)
        assert too_far(clicks, expected[department == here].sum(axis=0)) < 4
    loyal, chance = shop.items == favourite, expected[np.arange(len(department)), favourite % 8]
    assert abs((loyal - chance).sum()) < 4 * np.sqrt((chance * (1 - chance)).sum())


def test_lasting_tastes_are_uniform(shop):
    assert too_far(np.bincount(shop.favourites.ravel() % 8), np.full(8, 300 * 6 / 8)) < 4


def test_a_gap_of_thirty_minutes_finds_the_sessions(shop):
    apart, owner_changes = np.diff(shop.times), np.diff(shop.users) > 0
    new = np.diff(shop.sessions) > 0
    assert (apart[~new] >= 1).all() and (apart[~new] <= LONGEST_PAUSE).all()
    assert (apart[new & ~owner_changes] >= SHORTEST_GAP).all()
    assert np.bincount(shop.sessions).min() == 2
    assert np.unique(np.diff(np.unique(shop.sessions))).tolist() == [1]


def test_sessions_spread_over_the_days_and_lengths_keep_their_mean(shop):
    assert 19 * 86_400 < shop.times.max() - shop.times.min() <= 20 * 86_400
    by_day = np.bincount((shop.times - shop.times.min()) // 86_400, minlength=20)[:20]
    assert by_day.min() > 0.8 * by_day.mean()
    assert np.bincount(shop.sessions).mean() == pytest.approx(5, rel=0.05)
    assert (shop.sessions.max() + 1) / 300 == pytest.approx(20, rel=0.05)


def test_too_few_days_is_an_error_that_names_the_flag():
    with pytest.raises(InputError, match=r"--shop_days: expected at least 3 .* got 1"):
        draw(dataclasses.replace(SMALL, shop_days=1))


def test_the_written_log_says_the_same(shop, tmp_path):
    path = tmp_path / "log" / "shop.csv"
    write_log(shop, path)
    with path.open(newline="") as file:
        user, item, category, behavior, time = zip(*csv.reader(file), strict=True)
    assert np.array_equal(numbers(user, 300, "user"), shop.users)
    assert np.array_equal(numbers(item, shop.n_items, "item"), shop.items)
    assert np.array_equal(np.array(category, int), shop.items // 8)
    assert set(behavior) == {"pv"}
    assert np.array_equal(np.array(time, np.int64), shop.times)
    assert not partial_path(path).exists()


@pytest.mark.parametrize("text", ["48", "-1", "1.0", "", "²"])
def test_an_item_that_is_not_of_the_shop_is_refused(text):
    with pytest.raises(InputError, match=r"item .* expected a number of the simulated shop, 0 to 47"):
        numbers([text], 48, "item")
