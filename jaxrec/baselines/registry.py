"""Every baseline by its name: `BASELINES[name](dataset, sessions)` fits it on the given session numbers and gives a Scorer."""

from collections.abc import Callable, Sequence

from jaxrec.baselines.factors import fit_als, fit_als_session, fit_bpr_mf
from jaxrec.baselines.item_knn import fit_item_knn
from jaxrec.baselines.markov import fit_markov
from jaxrec.baselines.markov_user_history import fit_markov_user_history
from jaxrec.baselines.popularity import fit_popularity, fit_session_popularity, fit_user_history, fit_user_history_decayed
from jaxrec.baselines.session_knn import fit_session_knn
from jaxrec.data.dataset import Dataset
from jaxrec.evaluation.scorer import Scorer

BASELINES: dict[str, Callable[[Dataset, Sequence[int]], Scorer]] = {
    "popularity": fit_popularity,
    "session_popularity": fit_session_popularity,
    "user_history": fit_user_history,
    "user_history_decayed": fit_user_history_decayed,
    "markov": fit_markov,
    "markov_user_history": fit_markov_user_history,
    "item_knn": fit_item_knn,
    "session_knn": fit_session_knn,
    "bpr_mf": fit_bpr_mf,
    "als": fit_als,
    "als_session": fit_als_session,
}
