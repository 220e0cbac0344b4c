"""The PyTorch peers of the personalisation benchmark fine-tune as ours does, and its operations are those of the model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.personalize_throughput import CASES, MODEL, operations_of, products_of
from jaxrec.data.blocks import Block
from jaxrec.data.user_blocks import UserEvents
from jaxrec.learning.negatives import draw_items
from jaxrec.learning.personalize import fit_user, no_advice, personal_sampler
from jaxrec.models.recommender import Model, ModelOptions


def test_operations_are_three_times_the_forward_ones_less_what_frozen_rows_need():
    case = CASES["reference"]
    forward, backward = ({*part} for part in products_of(case))
    assert {(48, 64, 300), (8, 100, 300), (48, 100, 64), (48, 64, 128)} == forward
    (units,) = MODEL.options.units
    once = 2 * 48 * (64 * 3 * units + units * 3 * units + units * 64 + 64 * 128)
    frozen = 2 * 48 * (64 * 3 * units + 64 * 128)
    assert operations_of(case, 5.0) == 5 * (3 * once - frozen) and backward.isdisjoint(forward)


def test_a_hold_out_trains_on_the_rest_with_every_rate_and_is_judged_after_every_epoch():
    case = CASES["default"]
    alone = case._replace(blocks=1, choice=dataclasses.replace(case.choice, holdout_fraction=0.0))
    update, tried = operations_of(alone, 1.0), 2 * 3
    forward = sum(2 * m * k * n for m, k, n in products_of(case)[0])
    assert operations_of(case, 2.0) == update * (3 * tried + 4 * 2) + forward * (1 + tried)


@pytest.mark.parametrize("peer", ["fit_one", "fit_together"])
def test_the_torch_peers_train_the_same_parameters_as_ours(peer):
    peers = pytest.importorskip("benchmarks.torch_personal", exc_type=ImportError)
    case, torch, rate = CASES["reference"], peers.torch, 0.05
    options = dataclasses.replace(case.training, personal_n_sample=16, personal_learning_rates=(rate,))
    model = Model(ModelOptions(units=(6,), embedding_dim=5), 40)
    shared, start = model.split(model.init(jax.random.key(3)))
    source = personal_sampler(np.arange(1, 41), options)
    items = np.random.default_rng(0).integers(0, 40, (1, 4, 4)).astype(np.int32)
    ones, user = np.ones((1, 4, 3), bool), 7
    ours = fit_user(
        model, options, case.choice, shared, start, source, no_advice(options), UserEvents(user, Block(items, ones, ~ones), ~ones)
    ).params
    key = jax.random.fold_in(jax.random.key(0), user)
    keys = [jax.random.split(jax.random.fold_in(jax.random.fold_in(key, epoch), 0))[0] for epoch in range(5)]
    drawn = _torch(torch, jnp.stack([draw_items(source, key, 16) for key in keys])).long()
    events, table = torch.from_numpy(items[0]).long(), _torch(torch, shared["item_table"])
    block = (events, drawn) if peer == "fit_one" else (events[None], drawn[None])
    theirs = getattr(peers, peer)(_as_torch(torch, start), table, *block, _torch(torch, source.drawn_offset), rate)
    for name, part in _as_torch(torch, ours).items():
        np.testing.assert_allclose(theirs[name].reshape(part.shape), part, atol=1e-4)


def _as_torch(torch, personal):
    """Our parameters under torch's names; a matrix of torch's is ours turned around."""
    last, dense = personal["last"], personal["dense"]
    ours = {"weight_ih": last["w_in"].T, "weight_hh": last["w_hidden"].T, "bias_ih": last["b_in"], "bias_hh": last["b_hidden"]}
    named = {f"gru.{name}_l0": part for name, part in ours.items()} | {"dense.weight": dense["kernel"].T, "dense.bias": dense["bias"]}
    return {name: _torch(torch, part) for name, part in named.items()}


def _torch(torch, array):
    return torch.from_numpy(np.array(array))
