"""Bytes between cloud and device for one list of candidates: sent down to be ranked on the device, or ranked in the cloud.

Pull: the device downloads rows and ranks; push: the user vector goes up and the cloud ranks (DeepRec, WWW 2021; "cloud-client convergence",
Journal of Computer Applications 2022).
"""

from collections.abc import Sequence
from typing import Any

from jaxrec.device.sizes import NUMBER, ROW_BYTES, candidate_bytes

MODES = ("pull", "push")
ANSWER = 20
"""Items that the cloud names where it ranks."""


def delivery_bytes(items: int, dim: int, lists: Sequence[int]) -> dict[str, Any]:
    """What travels between cloud and device, once for each time that candidates are picked.

    Args:
      items: in the catalogue.
      dim: numbers of an item row and of the user vector.
      lists: numbers of candidates.

    Returns:
      pull: by precision of the rows, "catalogue" (row and bias of every item, in order of their indices) and each number of candidates
        (index, row and bias of each), with "ratio" by number of candidates;
      push: the user vector up, float32, and the indices of `ANSWER` items down.
    """
    pull = {}
    for precision, row_bytes in ROW_BYTES.items():
        catalogue = items * (row_bytes(dim) + NUMBER)
        weight = {str(n): min(n, items) * candidate_bytes(precision, dim) for n in lists}
        pull[precision] = {"catalogue": catalogue, **weight, "ratio": {n: catalogue / one for n, one in weight.items()}}
    return {"pull": pull, "push": {"up": dim * NUMBER, "down": min(ANSWER, items) * NUMBER}}
