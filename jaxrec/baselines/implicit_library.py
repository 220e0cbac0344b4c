"""The library implicit, quiet and the same each time; imported where it is used, so that machines without it can run everything else."""

from types import SimpleNamespace
from typing import Any

from scipy import sparse

from jaxrec.errors import InputError

SEED = 0


def fitted(baseline: str, model: str, matrix: sparse.csr_matrix, **settings: Any) -> Any:
    """One of the library's models, fitted to a matrix of one row per user, sparse [rows, items] float32.

    Args:
      baseline: who asks for it.
      model: "bpr" or "als".
      settings: of the library's model.

    Raises:
      InputError: the library is missing.
    """
    library = _library(baseline)
    # The library brings threads of its own; those of BLAS beside them make it slow, and it warns about them.
    with library.threadpool_limits(1, "blas"):
        found = library.models[model](random_state=SEED, **settings)
        found.fit(matrix, show_progress=False)
    return found


def _library(baseline: str) -> SimpleNamespace:
    try:
        from implicit.cpu.als import AlternatingLeastSquares
        from implicit.cpu.bpr import BayesianPersonalizedRanking
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise InputError(f"{baseline}: expected the package implicit; it cannot be imported ({error}); pip install implicit") from None
    models = {"als": AlternatingLeastSquares, "bpr": BayesianPersonalizedRanking}
    return SimpleNamespace(models=models, threadpool_limits=threadpool_limits)
