"""Export a trained model as one TFLite file with everything a device needs: recommend, follow clicks, learn.

Example: python -m launch.export --workdir=runs/shop --dataset=runs/shop/dataset --precision=int8
         python -m launch.export --workdir=runs/shop --dataset=runs/shop/dataset --user=17
"""

from jaxrec.data.storage import load_dataset
from jaxrec.device.signatures import ExportOptions
from jaxrec.stages.export import export_user, run_export
from launch import flags

WORKDIR = flags.path("workdir", "folder of a run; the export goes to its folder `device`")
DATASET = flags.path("dataset", "folder that prepare wrote")
OVERWRITE = flags.switch("overwrite", "replace an export that was made otherwise")
USER = flags.text("user", "of a model that is exported: write what this user's device starts from, to device/users, and nothing else")
OPTIONS = flags.options(ExportOptions)


def main() -> None:
    """Export, then print what came out."""
    workdir, dataset = flags.required(WORKDIR(), "workdir"), load_dataset(flags.required(DATASET(), "dataset"))
    if USER() is not None:
        path, own = export_user(dataset, workdir, USER())
        print(f"{path}: {'own parameters' if own else 'the global parameters, because no model of the own was found to be better'}")
        return
    manifest = run_export(dataset, workdir, OPTIONS(), OVERWRITE())
    size, error, learning = manifest["model_bytes"], manifest["recommend_max_abs_error"], manifest["train_max_abs_error"]
    print(f"{workdir / 'device'}: {size:,} bytes, {manifest['precision']}; from JAX by {error:.1e} (recommend), {learning:.1e} (train)")


if __name__ == "__main__":
    flags.run(main)
