"""The whole job: log -> global model -> personal models -> TFLite -> measured report. Without --input it runs on a simulated shop.

Example: python -m launch.experiment --workdir=runs/shop
         python -m launch.experiment --input=UserBehavior.csv --item_field=category --workdir=runs/taobao
"""

from jaxrec.data.prepare import PrepareOptions
from jaxrec.data.reading.formats import ReadOptions
from jaxrec.data.shop import ShopOptions
from jaxrec.device.measure import MeasureOptions
from jaxrec.device.shipped import ExportOptions
from jaxrec.learning.mesh import MeshOptions
from jaxrec.learning.personal_recipe import ChoiceOptions, PersonalOptions, PersonalRecipe, UserRunOptions
from jaxrec.learning.recipe import LossOptions, OptimizerOptions, Recipe, RunOptions
from jaxrec.models.recommender import ModelOptions
from jaxrec.stages.candidates import CandidateOptions
from jaxrec.stages.evaluate import EvaluateOptions
from jaxrec.stages.experiment import Plan, run_experiment
from launch import flags

INPUT = flags.path("input", "log file; several by repeating the flag, by commas or by a pattern; none: the simulated shop", many=True)
TEST_INPUT = flags.path("test_input", "log file that is the whole test period; several as for --input", many=True)
WORKDIR = flags.path("workdir", "folder of the run")
OVERWRITE = flags.switch("overwrite", "replace stages that were done with other options")
READING, PREPARE, SHOP = (flags.options(kind) for kind in (ReadOptions, PrepareOptions, ShopOptions))
MODEL, LOSS, OPTIMIZER, RUN = (flags.options(kind) for kind in (ModelOptions, LossOptions, OptimizerOptions, RunOptions))
TRAINING, CHOICE, USER_RUN = (flags.options(kind) for kind in (PersonalOptions, ChoiceOptions, UserRunOptions))
CANDIDATES, EVALUATE, EXPORT = (flags.options(kind) for kind in (CandidateOptions, EvaluateOptions, ExportOptions))
MEASURE, MESH = flags.options(MeasureOptions), flags.options(MeshOptions)


def main() -> None:
    """Run, then print the report and where its page lies."""
    workdir = flags.required(WORKDIR(), "workdir")
    recipe = Recipe(LOSS(), OPTIMIZER(), RUN())
    personal = PersonalRecipe(TRAINING(), CHOICE(), USER_RUN())
    stages = (CANDIDATES(), personal, EVALUATE(), EXPORT(), MEASURE())
    plan = Plan(READING(), PREPARE(), SHOP(), MODEL(), recipe, *stages, MESH())
    run_experiment(INPUT(), TEST_INPUT(), workdir, plan, OVERWRITE())
    print((workdir / "report.md").read_text(encoding="utf-8"))
    print(f"The same with plots: {workdir / 'report.html'}")


if __name__ == "__main__":
    flags.run(main)
