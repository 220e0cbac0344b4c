"""The one protocol behind which every model is evaluated: networks, personal models, baselines, mixtures of them."""

from typing import Any, Protocol

from jaxrec.data.blocks import SessionBlock


class Scorer(Protocol):
    """A model that scores every item of the catalogue after each event of a session.

    Scores are comparable within one prediction only; a higher score is a better rank. Nothing after event t may influence the
    scores of step t.

    Dimensions: P places of a block's predictions.
    """

    def encode(self, block: SessionBlock) -> Any:
        """What the model needs to score the block's steps, computed once."""

    def scores(self, encoded: Any, start: int, stop: int) -> Any:
        """Scores of items start:stop after each place of `block.predictions()`, [P, stop - start] float32."""
