"""The export stage: what training and personalisation left in the workdir becomes the folder that devices receive."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from jaxrec.data.storage import VOCABULARY, load_dataset
from jaxrec.device.export import export
from jaxrec.device.runtime import MANIFEST
from jaxrec.device.signatures import ExportOptions
from jaxrec.files import read_json
from jaxrec.learning.personalize import PersonalOptions, personal_sampler
from jaxrec.stages.once import once


def run(workdir: Path, dataset: Path, options: ExportOptions, personal: PersonalOptions, overwrite: bool) -> dict[str, Any]:
    """Write `workdir`/device; returns its manifest.

    Args:
      personal: how users were fine-tuned; their devices learn by the same rule.

    Raises:
      InputError: there is no trained model, or the folder was exported with other settings and `overwrite` is off.
    """
    rule, folder = personal.rule, workdir / "device"
    settings = {**dataclasses.asdict(options), "rule": dataclasses.asdict(rule), "personal_sample_alpha": personal.personal_sample_alpha}

    def work() -> dict[str, Any]:
        from jaxrec.stages.train import load_trained

        model, params = load_trained(workdir)
        offsets = device_offsets(load_dataset(dataset).item_counts, options, personal)
        return export(model, params, history_weight(workdir), offsets, options, folder, rule, dataset / VOCABULARY)

    return once(folder / MANIFEST, settings, overwrite, work)


def device_offsets(counts: np.ndarray, options: ExportOptions, personal: PersonalOptions) -> np.ndarray:
    """Offset of every item as a negative on the device, [items]: as in the simulation, for the device's own number of negatives."""
    return np.asarray(personal_sampler(counts, dataclasses.replace(personal, personal_n_sample=options.train_negatives)).drawn_offset)


def history_weight(workdir: Path) -> float:
    """Weight of the history prior that personalisation learnt; 0 where that stage did not run, as for a log without users."""
    path = workdir / "personal" / "metrics.json"
    return float(read_json(path, "result of personalisation")["history_weight"]) if path.exists() else 0.0
