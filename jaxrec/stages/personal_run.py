"""What personalisation works on, from choosing by validation to updates on the way."""

import dataclasses
from functools import cached_property

import jax
import numpy as np
from jax.sharding import Mesh

from jaxrec.data.blocks import Histories
from jaxrec.data.dataset import Dataset
from jaxrec.data.own_history import popularity
from jaxrec.data.user_blocks import UserEvents, knowing
from jaxrec.learning.mesh import sharding
from jaxrec.learning.personal_recipe import PersonalRecipe
from jaxrec.models.recommender import Params
from jaxrec.stages.train import Trained


@dataclasses.dataclass(frozen=True)
class PersonalRun:
    """The same for all chunks of users.

    Attributes:
      trained: the global model, with the parts that devices train.
      candidates: of every user index, -1 behind the end, [users, N], where devices know nothing else but own items; None: all items.
      mesh: devices of this process that share the users of a chunk.
    """

    dataset: Dataset
    trained: Trained
    recipe: PersonalRecipe
    candidates: np.ndarray | None = None
    mesh: Mesh | None = None

    @cached_property
    def histories(self) -> Histories:
        return Histories(self.dataset)

    @cached_property
    def popular(self) -> np.ndarray:
        """Popularity of all items, for the history prior, [items]."""
        return popularity(self.dataset.item_counts)

    def split(self) -> tuple[Params, Params]:
        """(shared, personal) parts of the global model, on all devices of the mesh."""
        parts = self.trained.model.split(self.trained.params)
        return parts if self.mesh is None else jax.device_put(parts, sharding(self.mesh))

    def knowing(self, events: UserEvents, shares: np.ndarray, before: int) -> UserEvents:
        """The chunk with what its devices know.

        Args:
          shares: as in `jaxrec.data.user_blocks.knowing`.
          before: number of the first session that they know nothing of, but for the events themselves.
        """
        if self.candidates is None:
            return events
        return knowing(events, self.candidates, self.histories.held(events.user[events.user >= 0], before), shares)
