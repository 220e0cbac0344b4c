"""Export a trained model as one TFLite file with everything a device needs: recommend, follow clicks, learn.

Example: python -m launch.export --workdir=runs/shop --dataset=runs/shop/dataset --precision=int8
         python -m launch.export --workdir=runs/shop --dataset=runs/shop/dataset --user=17
         python -m launch.export --workdir=runs/shop --dataset=runs/shop/dataset --user=17 --rows=candidates
"""

from jaxrec.data.storage import load_dataset
from jaxrec.device.shipped import ExportOptions
from jaxrec.stages.export import export_user, run_export
from launch import flags

WORKDIR = flags.path("workdir", "folder of a run; the export goes to its folder `device`")
DATASET = flags.path("dataset", "folder that prepare wrote")
OVERWRITE = flags.switch("overwrite", "replace an export that was made otherwise")
USER = flags.text(
    "user",
    "write what this user's device starts from, to device/users, and nothing else: personal parameters (and item rows) for the model that "
    "is exported, or, with --rows=candidates or --baked, a model of the user's own",
)
OPTIONS = flags.options(ExportOptions)


def main() -> None:
    """Export, then print what came out."""
    workdir, dataset = flags.required(WORKDIR(), "workdir"), load_dataset(flags.required(DATASET(), "dataset"))
    if USER() is not None:
        paths, own = export_user(dataset, workdir, USER(), OPTIONS())
        whose = "own parameters" if own else "the global parameters, because no model of the own was found to be better"
        print(f"{', '.join(map(str, paths))}: {whose}")
        return
    manifest = run_export(dataset, workdir, OPTIONS(), OVERWRITE())
    errors = ", ".join(f"{manifest[f'{name}_max_abs_error']:.1e} ({name})" for name in manifest["signatures"])
    print(f"{workdir / 'device'}: {manifest['model_bytes']:,} bytes, {manifest['precision']}; from JAX by {errors}")


if __name__ == "__main__":
    flags.run(main)
