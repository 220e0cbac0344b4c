"""The one step: against NumPy, against recorded traces of GRU4Rec, and its laws."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from small_logs import real
from world import N_ITEMS, small_model

from jaxrec.data.blocks import Block
from jaxrec.learning.negatives import Negatives, sampler
from jaxrec.learning.optimizers import adagrad, apply, frozen_outside
from jaxrec.learning.spread import ALONE
from jaxrec.learning.step import Rule, block_loss, init_state, rows_of, step, trained_parts, used_rows
from jaxrec.learning.tables import merge_duplicates, move, pack, read, weights_of
from jaxrec.models.gru import GRULayer
from jaxrec.models.recommender import Model, ModelOptions, personal_mask

RATE = np.float32(0.1)


def random_block(seed=0, rows=4, steps=1):
    generator = np.random.default_rng(seed)
    mask = generator.random((rows, steps)) < 0.8
    reset = generator.random((rows, steps)) < 0.3
    reset[:, 1:] |= ~mask[:, :-1]
    return Block(generator.integers(0, N_ITEMS, (rows, steps + 1)).astype(np.int32), mask, reset)


def some_negatives(block, n=6, seed=0):
    generator = np.random.default_rng(seed)
    return Negatives(
        generator.integers(0, N_ITEMS, n), generator.normal(size=n).astype("f"), generator.normal(size=block.mask.shape).astype("f")
    )


def one_step(model, rule, frozen, trained, block, state=None, negatives=None, hidden=None):
    """Trained parts, state, hidden states and loss after one update of `trained`, or of a state that goes on."""
    state = init_state(rule, trained) if state is None else state
    hidden = model.zero_hidden(len(block.mask)) if hidden is None else hidden
    negatives = negatives or some_negatives(block)
    state, hidden, loss = step(model, rule, frozen, state, Block(*map(jnp.asarray, block)), hidden, negatives, RATE)
    return trained_parts(model, state), state, hidden, loss


def same(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


@pytest.mark.parametrize("momentum", [0.0, 0.4])
def test_adagrad_by_rows_is_numpy_adagrad_with_duplicates_summed_first(momentum):
    generator, optimizer = np.random.default_rng(0), adagrad(momentum)
    table = generator.normal(size=(9, 3)).astype("f")
    want, squares, velocity = table.astype(np.float64), np.zeros((9, 3)), np.zeros((9, 3))
    table, scratch = pack(optimizer, jnp.asarray(table)), jnp.zeros(9, jnp.int32)
    for _ in range(20):
        rows, gradients = generator.integers(0, 9, 7), generator.normal(size=(7, 3)).astype("f")
        merged, summed, scratch = merge_duplicates(jnp.asarray(rows), jnp.asarray(gradients), scratch)
        _, whole = read(ALONE, table, jnp.asarray(rows), 3)
        table = move(optimizer, table, whole, merged, summed, RATE)
        for row in np.unique(rows):  # an untouched row does not move and keeps its momentum
            gradient = gradients[rows == row].sum(0)
            squares[row] += gradient**2
            velocity[row] = momentum * velocity[row] - 0.1 * gradient / np.sqrt(squares[row] + 1e-6)
            want[row] += velocity[row]
    np.testing.assert_allclose(weights_of(table, (3,)), want, rtol=1e-4, atol=1e-5)


def test_the_first_adagrad_step_is_as_long_as_the_rate():
    optimizer, start = adagrad(0.0), jnp.array([5.0, -3.0])
    updates, _ = optimizer.update(jnp.array([0.7, -20.0]), optimizer.init(start))
    np.testing.assert_allclose(apply(start, updates, RATE) - start, [-0.1, 0.1], rtol=1e-5)


@pytest.mark.parametrize("table", ["shared", "separate"])
@pytest.mark.parametrize("steps", [1, pytest.param(3, marks=pytest.mark.long)])
def test_updating_rows_is_updating_the_whole_table(table, steps):
    model, params = small_model(table=table)
    rule, block = Rule(scale=4), random_block(steps=steps)
    negatives = some_negatives(block)

    def whole(params):
        rows = rows_of(params, used_rows(model, Block(*map(jnp.asarray, block)), negatives))
        return block_loss(model, rule, params, rows, block, model.zero_hidden(4), negatives)[0]

    gradients = jax.grad(whole)(params)
    updates, _ = adagrad(0.0).update(gradients, adagrad(0.0).init(params))
    same(one_step(model, rule, {}, params, block, negatives=negatives)[0], apply(params, updates, RATE), atol=2e-5)


def test_targets_of_other_rows_alone_are_negatives_enough():
    model, params = small_model()
    block = random_block(rows=5)
    new, _, _, loss = one_step(model, Rule(scale=5), {}, params, block, negatives=some_negatives(block, n=0))
    assert float(loss) > 0
    moved = np.flatnonzero((np.asarray(new["item_table"]) != np.asarray(params["item_table"])).any(1))
    np.testing.assert_array_equal(moved, np.unique(block.items[block.mask[:, 0]]))


def test_rows_that_are_not_used_stay_bit_identical():
    model, params = small_model()
    block, rule = random_block(), Rule(momentum=0.5, scale=4)
    new, state, hidden, _ = one_step(model, rule, {}, params, block)
    second = random_block(5)
    negatives = some_negatives(second, seed=9)
    after, *_ = one_step(model, rule, {}, new, second, state, negatives, hidden)
    used = np.unique(np.concatenate([second.items[:, 0][second.mask[:, 0]], second.items[:, 1][second.mask[:, 0]], negatives.items]))
    rest = np.setdiff1d(np.arange(N_ITEMS), used)
    assert len(rest) > 5
    np.testing.assert_array_equal(np.asarray(after["item_table"])[rest], np.asarray(new["item_table"])[rest])


@pytest.mark.parametrize("seed", range(4))
def test_the_bias_of_an_item_that_is_only_read_or_stands_in_a_dead_lane_stays_bit_identical(seed):
    model, params = small_model()
    rule, first, second = Rule(momentum=0.5, scale=8), random_block(seed, rows=8), random_block(seed + 10, rows=8)
    second.mask[:] = (np.arange(8) % 2 == 0)[:, None]
    first.mask[0], first.items[0, 1] = True, N_ITEMS - 1  # the last item has momentum, and is then only read
    second.items[:, 1] %= N_ITEMS - 1
    second.items[0, 0] = N_ITEMS - 1
    new, state, hidden, _ = one_step(model, rule, {}, params, first)
    negatives = some_negatives(second, n=3, seed=seed)
    negatives.items[:] %= N_ITEMS - 1
    after, *_ = one_step(model, rule, {}, new, second, state, negatives, hidden)
    scored = np.concatenate([second.items[:, 1][second.mask[:, 0]], negatives.items])
    rest = np.setdiff1d(np.arange(N_ITEMS), scored)
    np.testing.assert_array_equal(np.asarray(after["item_bias"])[rest], np.asarray(new["item_bias"])[rest])


@pytest.mark.parametrize("in_batch", [True, False])
def test_a_dead_row_is_as_if_it_were_not_there(in_batch):
    model, params = small_model()
    rule, block = Rule(in_batch=in_batch, scale=4), random_block(2, rows=5)
    block.mask[:] = [[True], [True], [False], [True], [False]]
    negatives = some_negatives(block)
    live = block.mask[:, 0]
    alone = Block(*(part[live] for part in block))
    few = negatives._replace(target_offset=negatives.target_offset[live])
    with_dead, without = (
        one_step(model, rule, {}, params, block, negatives=negatives),
        one_step(model, rule, {}, params, alone, negatives=few),
    )
    same(with_dead[0], without[0], atol=5e-6)
    np.testing.assert_allclose(with_dead[3], without[3], rtol=1e-5)


def test_freezing_by_optax_and_by_splitting_give_the_same_and_frozen_leaves_bit_identical():
    """Shared parts are frozen either by a mask over the optimizer of the whole model, or by handing the step the personal parts only."""
    model, params = small_model(units=(6, 4))
    rule, block = Rule(in_batch=False), random_block(steps=3)
    shared, personal = model.split(params)
    split, _, _, _ = one_step(model, rule, shared, personal, block)

    optimizer = frozen_outside(rule.transformation, personal_mask(model, params))
    negatives = some_negatives(block)

    def loss(params):
        rows = rows_of(params, used_rows(model, Block(*map(jnp.asarray, block)), negatives))
        return block_loss(model, rule, params, rows, block, model.zero_hidden(4), negatives)[0]

    updates, _ = optimizer.update(jax.grad(loss)(params), optimizer.init(params), params)
    masked = optax.apply_updates(params, jax.tree.map(lambda update: -RATE * update, updates))
    masked_shared, masked_personal = model.split(masked)
    jax.tree.map(np.testing.assert_array_equal, masked_shared, shared)
    same(masked_personal, split, atol=1e-6)
    moved = jax.tree.map(lambda a, b: bool((np.asarray(a) != np.asarray(b)).any()), split, personal)
    assert all(jax.tree.leaves(moved)), f"every personal leaf must learn: {moved}"


def test_nothing_flows_back_into_the_state_before_the_block():
    model, params = small_model()
    block, rule = random_block(), Rule(scale=4)
    block.reset[:] = False

    def after(scale):
        hidden = tuple(jnp.ones((4, 6)) * scale for _ in range(1))
        rows = rows_of(params, used_rows(model, Block(*map(jnp.asarray, block)), some_negatives(block)))
        return block_loss(model, rule, params, rows, block, hidden, some_negatives(block))[1][0].sum()

    assert after(1.0) != after(2.0)
    assert jax.grad(after)(1.0) == 0.0


def params_of_trace(trace, update):
    """GRU4Rec's weights in our names; its matrices are [3 units, inputs]."""
    at = {name.split("/")[1]: np.asarray(trace[name]) for name in trace if name.startswith(f"w{update}/")}
    last = {"w_in": at["G.0.weight_ih"].T, "w_hidden": at["G.0.weight_hh"].T, "b_in": at["G.0.bias_ih"], "b_hidden": at["G.0.bias_hh"]}
    return {"item_table": at["Wy.weight"], "item_bias": at["By.weight"][:, 0], "last": last}


TRACES = {
    "xe_logq": (0.5, 1.0, RATE, {}),
    "xe_nologq_mom": (0.0, 0.0, RATE, {"momentum": 0.3}),
    "bprmax_elu_mom": (0.4, 0.0, np.float32(0.05), {"loss": "bpr-max", "bpreg": 1.95, "elu_param": 0.5, "momentum": 0.4}),
    "bprmax_linear": (1.0, 0.0, RATE, {"loss": "bpr-max", "bpreg": 0.5, "elu_param": 0.0}),
}


@pytest.mark.parametrize("name", TRACES)
def test_recorded_updates_of_gru4rec_are_reproduced(name):
    """Update by update while all lanes are full; the weights after update 5 are the last ones recorded before lanes end."""
    trace = np.load(real("gru4rec_traces") / f"{name}.npz")
    alpha, logq, rate, learns = TRACES[name]
    model = Model(ModelOptions(units=(12,), embedding_dim=12, dense=False), 40)
    rule, source = Rule(scale=16, **learns), sampler(trace["pop"], alpha, logq)
    trained = jax.tree.map(jnp.asarray, params_of_trace(trace, 0))
    state, hidden, run = init_state(rule, trained), model.zero_hidden(16), jax.jit(step, static_argnums=(0, 1))
    lanes_end = int(np.argmax(trace["live"] < 16))
    for update in range(lanes_end):
        x, y = trace["x"][update], trace["y"][update]
        starts = np.ones(16, bool) if update == 0 else x != trace["y"][update - 1]
        block = Block(jnp.asarray(np.stack([x, y], 1), jnp.int32), jnp.ones((16, 1), bool), jnp.asarray(starts[:, None]))
        items = jnp.asarray(trace["neg"][update], jnp.int32)
        negatives = Negatives(items, source.drawn_offset[items], source.column_offset[block.items[:, 1:]])
        state, hidden, loss = run(model, rule, {}, state, block, hidden, negatives, rate)
        assert float(loss) == pytest.approx(trace["loss"][update], rel=1e-5), f"update {update}"
        if update + 1 in (1, 5):
            same(trained_parts(model, state), params_of_trace(trace, update + 1), atol=1e-4)


def test_full_cross_entropy_is_a_softmax_over_the_catalogue_and_trains_all_rows():
    model, params = small_model()
    block, rule = random_block(rows=5), Rule(loss="full", scale=5)
    trained, _, _, loss = one_step(model, rule, {}, params, block)
    hidden = model.zero_hidden(5)
    vectors, _ = jax.vmap(lambda *row: model.encode(params, *row))(params["item_table"][block.items[:, :-1]], hidden, block.reset, None)
    scores = np.asarray(vectors[:, 0] @ params["item_table"].T + params["item_bias"][None], np.float64)
    each = np.log(np.exp(scores).sum(-1)) - scores[np.arange(5), block.items[:, 1]]
    assert float(loss) == pytest.approx(each[block.mask[:, 0]].sum() / 5, rel=1e-5)
    assert (np.asarray(trained["item_table"]) != np.asarray(params["item_table"])).all()


@pytest.mark.parametrize("loss", ["cross-entropy", "full"])
def test_clipping_scales_all_gradients_together(loss):
    """With SGD the whole move is as long as rate x norm, at most; a norm that is never reached changes nothing."""
    model, params = small_model()
    block = random_block(rows=5)

    def moved(clip_norm):
        rule = Rule(loss=loss, optimizer="sgd", scale=5, clip_norm=clip_norm)
        trained, *_ = one_step(model, rule, {}, params, block)
        return jax.tree.map(jnp.subtract, params, trained)

    free = moved(0.0)
    length = float(optax.tree.norm(free)) / float(RATE)
    assert float(optax.tree.norm(moved(length / 2))) == pytest.approx(float(RATE) * length / 2, rel=1e-4)
    same(moved(length / 2), jax.tree.map(lambda move: move / 2, free), rtol=1e-3, atol=1e-7)
    same(moved(length * 2), free, rtol=1e-4, atol=1e-8)


def test_weight_decay_pulls_what_is_in_use_towards_zero():
    model, params = small_model()
    block = random_block(rows=5)
    plain, decayed = (one_step(model, Rule(scale=5, weight_decay=decay), {}, params, block)[0] for decay in (0.0, 0.5))
    difference = jax.tree.map(jnp.subtract, plain, decayed)
    same(difference["last"], jax.tree.map(lambda p: RATE * 0.5 * p, params["last"]), atol=1e-6)
    used = np.unique(np.concatenate([block.items[:, 1:][block.mask], block.items[:, :-1][block.mask], some_negatives(block).items]))
    want = np.zeros_like(params["item_table"])
    want[used] = RATE * 0.5 * np.asarray(params["item_table"])[used]
    np.testing.assert_allclose(difference["item_table"], want, atol=1e-6)


@pytest.mark.parametrize("table", ["shared", "separate", "one-hot"])
def test_input_modes_share_the_step_and_differ_in_what_they_train(table):
    options = ModelOptions(units=(6,), embedding_dim=6, dense=False, table=table)
    model = Model(options, N_ITEMS)
    params = model.init(jax.random.key(3))
    assert params.keys() == {"item_table", "item_bias", "last"} | (set() if table == "shared" else {"input_table"})
    block = random_block(rows=5)
    trained, *_ = one_step(model, Rule(scale=5), {}, params, block)
    moved = np.flatnonzero((np.asarray(trained[model.input_table]) != np.asarray(params[model.input_table])).any(1))
    inputs = np.unique(block.items[:, :-1][block.mask])
    assert np.isin(inputs, moved).all()
    if table != "shared":
        np.testing.assert_array_equal(moved, inputs)


def test_one_hot_inputs_are_rows_of_the_matrix_that_multiplies_one_hot_vectors():
    one_hot = Model(ModelOptions(units=(6,), embedding_dim=6, dense=False, table="one-hot"), 9)
    params = one_hot.init(jax.random.key(3))
    assert "w_in" not in params["last"] and params["input_table"].shape == (9, 18)
    bound = np.sqrt(6 / (9 + 6))
    assert 0.8 * bound < np.abs(params["input_table"]).max() <= bound
    layer = GRULayer(9, 6, nnx.Param, nnx.Rngs(0))
    for name, value in {"w_in": params["input_table"], **params["last"]}.items():
        getattr(layer, name)[...] = value
    items, reset = jnp.array([4, 0, 8]), jnp.array([True, False, False])
    want, _ = layer(jax.nn.one_hot(items, 9), jnp.zeros(6), reset, None)
    found, _ = one_hot.encode(params, params["input_table"][items], (jnp.zeros(6),), reset)
    np.testing.assert_allclose(found, want, rtol=1e-6)
