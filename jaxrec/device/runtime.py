"""The device's side: recommend, follow clicks, learn, keep what was learnt. Needs NumPy and ai_edge_litert, nothing else.

    device = DeviceModel.load("runs/shop/device")
    past = past_of([[3, 9], [12, 3, 3]])
    best = device.recommend(context=[12, 7], candidates=[3, 4, 5], past=past)
    device.train_on(items, mask, negatives, learning_rate=0.003)
    device.save("me.npz")

Items are indices of the vocabulary that was exported with the model.

Dimensions: C events of context, N candidates, K own items, k results, R x T steps of a training block, n negatives, dim of user vectors.
"""

import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrec.data.own_history import FEATURES, Past, own_items_now, past_of
from jaxrec.errors import InputError
from jaxrec.files import read_json, sha256, whole_file

MODEL, MANIFEST, PERSONAL = "model.tflite", "manifest.json", "personal.npz"
STATE = ("personal.", "optimizer.")
"""How the names of what a user's device keeps and trains begin."""
NOTHING = past_of([])
"""The past of a user who has no earlier sessions."""
FINGERPRINT = "fingerprint"
"""The entry of a file of personal parameters that names the model it belongs to."""


class Recommendation(NamedTuple):
    """What the device shows, best first.

    Attributes:
      items: [k] int32; -1 where there were fewer than k items to rank.
      scores: [k] float32.
      user_vector: what was compared to item rows, [dim] float32.
    """

    items: np.ndarray
    scores: np.ndarray
    user_vector: np.ndarray


class DeviceModel:
    """One user's model on one device; use `DeviceModel.load`.

    Attributes:
      manifest: what was exported: names, shapes and types of every signature, precision, versions.
      state: personal parameters and the optimizer's state by name.
      hidden: state of each layer after the clicks of the running session, by name.
    """

    def __init__(self, interpreter: Any, manifest: Mapping[str, Any], state: dict[str, np.ndarray]):
        self.manifest, self.state = manifest, state
        self.runners = {name: interpreter.get_signature_runner(name) for name in manifest["signatures"]}
        self.hidden: dict[str, np.ndarray] = {}
        self.new_session()

    @classmethod
    def load(cls, folder: str | Path, threads: int = 1) -> "DeviceModel":
        """The model in a folder that was exported, with the personal parameters that it came with.

        Raises:
          InputError: a file is missing, is not what the manifest says, or ai_edge_litert is not installed.
        """
        folder = Path(folder)
        manifest = read_json(folder / MANIFEST, "device manifest")
        check_model(folder / MODEL, manifest)
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise InputError(f"expected the package ai-edge-litert; it cannot be imported ({error}); pip install jaxrec[device]") from None
        interpreter = Interpreter(model_path=str(folder / MODEL), num_threads=threads)
        return cls(interpreter, manifest, read_state(folder / PERSONAL, manifest))

    def recommend(self, context: Sequence[int], candidates: Sequence[int], past: Past = NOTHING) -> Recommendation:
        """The best of some candidates.

        Args:
          context: items of the running session, oldest first; of them the network reads the last C.
          candidates: items to rank, at most N.
          past: the user's earlier sessions as `past_of` sums them up, for the history prior; once per session is enough.
        """
        own, bonus = self.own_bonus(context, past)
        wanted = np.asarray(candidates, np.int64)
        place = np.searchsorted(own, wanted).clip(max=max(len(own) - 1, 0))
        found = np.where(own[place] == wanted, bonus[place], 0) if len(own) else np.zeros(len(wanted))
        return self._best("recommend", context, {"candidates": (candidates, -1), "bonus": (found, 0)})

    def recommend_all(self, context: Sequence[int], past: Past = NOTHING) -> Recommendation:
        """The best of the whole catalogue; as `recommend`."""
        own, bonus = self.own_bonus(context, past)
        whole = np.zeros(self.manifest["items"], np.float32)
        known = (own >= 0) & (own < len(whole))
        whole[own[known]] = bonus[known]
        return self._best("recommend_all", context, {"bonus": whole})

    def own_bonus(self, context: Sequence[int], past: Past) -> tuple[np.ndarray, np.ndarray]:
        """(the user's own items in ascending order [K], what the history prior adds to their scores [K])."""
        weights = np.array([self.manifest["history"][name] for name in FEATURES], np.float32)
        own, features = own_items_now(past, context)
        return own, features @ weights

    def click(self, item: int) -> np.ndarray:
        """Follow one click of the running session; returns the user vector after it, [dim]."""
        after = self._call("step", {**self.hidden, "item": (item, 0)})
        vector = after.pop("user_vector")
        self.hidden = after
        return vector

    def new_session(self) -> None:
        """Forget the clicks of the running session."""
        inputs = self.manifest["signatures"]["step"]["inputs"]
        self.hidden = {name: np.zeros(of["shape"], of["dtype"]) for name, of in inputs.items() if name.startswith("hidden.")}

    def train_on(self, items: np.ndarray, mask: np.ndarray, negatives: Sequence[int], learning_rate: float) -> float:
        """One update of the personal parameters; returns the loss before it.

        Args:
          items: a session per row, oldest event first, at most [R, T + 1].
          mask: True where items[:, t + 1] is an event to predict, as many rows and one column less.
          negatives: items to score against, exactly n.

        Raises:
          InputError: the loss is not finite; nothing was changed.
        """
        block = {"items": (items, 0), "mask": (mask, False), "learning_rate": (learning_rate, 0)}
        if len(negatives) != self._shape("train", "negatives")[0]:
            raise InputError(f"negatives: expected {self._shape('train', 'negatives')[0]} items; got {len(negatives)}")
        after = self._call("train", {**block, "negatives": (negatives, 0)})
        loss = float(after.pop("loss"))
        if not math.isfinite(loss) or not all(np.isfinite(part).all() for part in after.values()):
            raise InputError(
                f"learning_rate: expected one that keeps the update finite; got {learning_rate} (loss {loss}); nothing was changed"
            )
        self.state = after
        return loss

    def save(self, path: str | Path) -> None:
        """Write the personal parameters and the optimizer's state, whole or not at all."""
        write_state(Path(path), self.state, self.manifest["sha256"])

    def restore(self, path: str | Path) -> None:
        """Go on with what `save` wrote.

        Raises:
          InputError: the file is damaged or belongs to another model.
        """
        self.state = read_state(Path(path), self.manifest)

    def _best(self, signature: str, context: Sequence[int], given: dict[str, Any]) -> Recommendation:
        context = np.asarray(context, np.int32)[-self._shape(signature, "context")[0] :]
        found = self._call(signature, {**given, "context": (context, 0), "length": (len(context), 0)})
        return Recommendation(found["items"], found["scores"], found["user_vector"])

    def _shape(self, signature: str, name: str) -> tuple[int, ...]:
        return tuple(self.manifest["signatures"][signature]["inputs"][name]["shape"])

    def _call(self, signature: str, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Run a signature; `given` holds arrays as they are, or (values, what to fill up with)."""
        inputs = self.manifest["signatures"][signature]["inputs"]
        feed = {name: self.state[name] for name in inputs if name.startswith(STATE)}
        for name, value in given.items():
            feed[name] = filled(name, inputs[name], *value) if isinstance(value, tuple) else value
        return self.runners[signature](**feed)


def filled(name: str, of: Mapping[str, Any], values: Any, rest: Any) -> np.ndarray:
    """The values as an array of the type and static shape of an input, filled up at the ends.

    >>> filled("context", {"shape": [4], "dtype": "int32"}, [7, 8], -1)
    array([ 7,  8, -1, -1], dtype=int32)
    """
    values, shape = np.asarray(values), tuple(of["shape"])
    if values.ndim != len(shape) or any(got > most for got, most in zip(values.shape, shape, strict=True)):
        raise InputError(f"{name}: expected at most the shape {shape}; got {values.shape}")
    if not np.can_cast(values.dtype, of["dtype"], "same_kind") and values.size:
        raise InputError(f"{name}: expected {of['dtype']}; got {values.dtype}")
    array = np.full(shape, rest, of["dtype"])
    array[tuple(slice(size) for size in values.shape)] = values
    return array


def check_model(path: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse a model file other than the one the manifest tells of: a damaged one mostly loads and runs, with other results."""
    if not path.exists():
        raise InputError(f"{path}: expected an exported model; there is no such file")
    if (found := sha256(path)) != manifest["sha256"]:
        raise InputError(f"{path}: expected the file with sha256 {manifest['sha256']}, as the manifest says; got {found}")


def write_state(path: Path, state: Mapping[str, np.ndarray], fingerprint: str) -> None:
    """Write a user's state and the fingerprint of the model it belongs to."""
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez(file, **state, **{FINGERPRINT: np.array(fingerprint)})


def read_state(path: Path, manifest: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What `write_state` wrote for the model of the manifest.

    Raises:
      InputError: the file is missing, damaged, or belongs to another model.
    """
    try:
        # A file opened here is closed whatever np.load makes of it.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            state = {name: arrays[name] for name in arrays.files}
    except FileNotFoundError:
        raise InputError(f"{path}: expected personal parameters; there is no such file") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, TypeError) as error:
        raise InputError(f"{path}: expected personal parameters; got something else ({error})") from None
    _check_state(path, state, manifest)
    return state


def _check_state(path: Path, state: dict[str, np.ndarray], manifest: Mapping[str, Any]) -> None:
    """Take the fingerprint out of the state and refuse what does not fit the model."""
    fingerprint = str(state.pop(FINGERPRINT, "none"))
    if fingerprint != manifest["sha256"]:
        raise InputError(f"{path}: expected personal parameters of the model {manifest['sha256'][:12]}; got those of {fingerprint[:12]}")
    inputs = manifest["signatures"]["train"]["inputs"]
    expected = {name: (tuple(of["shape"]), of["dtype"]) for name, of in inputs.items() if name.startswith(STATE)}
    got = {name: (array.shape, array.dtype.name) for name, array in state.items()}
    if got != expected:
        wrong = sorted(name for name in got.keys() | expected.keys() if got.get(name) != expected.get(name))
        raise InputError(f"{path}: expected {wrong[0]} with {expected.get(wrong[0])}; got {got.get(wrong[0])}")
