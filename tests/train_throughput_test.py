"""Cases of the training benchmark hold what the presets say, and the PyTorch loop it compares with trains the same model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from world import random_sessions

from benchmarks.presets import CONFIGS
from benchmarks.train_throughput import CASES, Case, options_of, synthetic_sessions
from jaxrec.data.blocks import Block
from jaxrec.data.lanes import plan_lanes
from jaxrec.learning.negatives import Negatives, sampler
from jaxrec.learning.step import init_state, step
from jaxrec.models.recommender import Model


def test_every_published_parameter_file_is_a_case_with_its_options():
    assert {case.preset for case in CASES.values()} == {path.stem for path in CONFIGS.glob("gru4rec_*.flags")}
    for name, case in CASES.items():
        model, recipe = options_of(case)
        assert model.units == (model.embedding_dim,) and not model.dense and recipe.loss.n_sample == 2048, name
    model, recipe = options_of(CASES["coveo"])
    assert (model.units, recipe.run.lanes, recipe.loss.loss, recipe.loss.bpreg) == ((512,), 144, "bpr-max", 1.85)


def test_changes_come_after_the_preset_and_unknown_ones_are_refused():
    assert options_of(CASES["units512"])[1].loss.loss == "cross-entropy"
    with pytest.raises(ValueError, match="speed"):
        options_of(Case("gru4rec_rsc15", 10, ("--speed=9",)))


@pytest.mark.parametrize("items", [1, 50, 4000])
def test_synthetic_sessions_fill_the_updates_and_name_items_that_exist(items):
    data = synthetic_sessions(items, lanes=8, updates=50)
    assert data.items.min() >= 0 and data.items.max() < items and data.items.size - len(data.offsets) + 1 == 8 * 50
    assert data.counts.sum() == data.items.size + items


@pytest.mark.parametrize("preset", ["gru4rec_rsc15", "gru4rec_coveo"])
def test_the_torch_loop_takes_the_same_steps_as_ours(preset):
    """Without dropout and on the same negatives the losses of an epoch agree, so state, loss, merging and Adagrad do."""
    loop_of = pytest.importorskip("benchmarks.torch_loop", exc_type=ImportError)
    torch = loop_of.torch
    options, recipe = options_of(Case(preset, 30, ("--units=6", "--embedding_dim=6", "--dropout_p_embed=0", "--dropout_p_hidden=0")))
    model, rule = Model(options, 30), recipe.rule(4, 30)
    params = model.init(jax.random.key(0))
    events, offsets = random_sessions(sessions=12)
    plan, counts = plan_lanes(events, offsets, 4), np.bincount(events, minlength=30) + 1
    source = sampler(counts, recipe.loss.sample_alpha, recipe.loss.logq)
    loop = loop_of.Loop(recipe, counts, 6, 4, 20, "cpu")
    _start_like(loop, params, torch)
    state, hidden = init_state(rule, params), model.zero_hidden(4)
    for items, mask, reset in zip(*plan, strict=True):
        drawn = loop.draw()
        columns = (items[:, 0].astype(np.int64), items[:, 1].astype(np.int64), reset[:, 0], mask[:, 0])
        theirs = loop.step(*map(torch.from_numpy, columns), drawn)
        block, drawn = Block(*map(jnp.asarray, (items, mask, reset))), jnp.asarray(drawn.numpy(), jnp.int32)
        negatives = Negatives(drawn, source.drawn_offset[drawn], source.column_offset[block.items[:, 1:]])
        state, hidden, ours = step(model, rule, {}, state, block, hidden, negatives, recipe.optimizer.learning_rate)
        np.testing.assert_allclose(theirs, ours, rtol=1e-5)


def _start_like(loop, params, torch):
    """Give the loop our parameters; a matrix of torch's cell is ours turned around."""
    loop.table.copy_(torch.from_numpy(np.array(params["item_table"])))
    ours = {"weight_ih": "w_in", "weight_hh": "w_hidden", "bias_ih": "b_in", "bias_hh": "b_hidden"}
    for name, parameter in loop.cell.named_parameters():
        parameter.data.copy_(torch.from_numpy(np.array(params["last"][ours[name]]).T))
