"""What personalisation works on, from choosing by validation to updates on the way."""

from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxrec.data.dataset import Dataset
from jaxrec.data.user_blocks import UserEvents, UserPlan, knowing, user_events
from jaxrec.learning.mesh import sharding
from jaxrec.learning.personal_recipe import PersonalRecipe
from jaxrec.models.recommender import Params
from jaxrec.stages.train import Trained


class PersonalRun(NamedTuple):
    """The same for all chunks of users.

    Attributes:
      trained: the global model, with the parts that devices train.
      candidates: of every user index, where negatives are drawn from them; see `jaxrec.data.user_blocks.knowing`.
      mesh: devices of this process that share the users of a chunk.
    """

    dataset: Dataset
    trained: Trained
    recipe: PersonalRecipe
    candidates: np.ndarray | None = None
    mesh: Mesh | None = None

    def split(self) -> tuple[Params, Params]:
        """(shared, personal) parts of the global model, on all devices of the mesh."""
        parts = self.trained.model.split(self.trained.params)
        return parts if self.mesh is None else jax.device_put(parts, sharding(self.mesh))

    def events(self, plan: UserPlan, chunk: int) -> UserEvents:
        """Arrays of one chunk of a plan of the dataset."""
        return knowing(user_events(self.dataset, plan, chunk), self.candidates)
