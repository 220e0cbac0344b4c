"""Pure JAX functions -> one TFLite file with a signature for each, without TensorFlow: jax.export -> StableHLO -> litert-converter.

The converter is imported where it is used, so that machines without it can run everything else.
"""

import importlib.metadata
import os
import warnings
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import jax
from jax import export as jax_export

from jaxrec.device.operations import operations
from jaxrec.device.signatures import Signature
from jaxrec.errors import InputError
from jaxrec.models.leaves import named

KNOWN_GOOD = "0.5."
"""Start of the converter versions that this module was tried with; its Python interface is not documented."""


def to_tflite(signatures: Sequence[Signature]) -> bytes:
    """One flatbuffer that holds every signature; constants used by several are stored once.

    Raises:
      InputError: the converter is not installed.
      RuntimeError: the file would need more than the runtime's built-in operations.
    """
    litert = _converter()
    context = litert.ir.Context()
    litert.converter.prepare_mlir_context(context)
    litert.stablehlo.register_dialect(context)
    merged = litert.converter.merge_modules([_module(litert, context, signature) for signature in signatures])
    config = litert.converter.ConvertToTFLConfig()
    config.model_origin_framework = "JAX"
    with context:
        litert.converter.run_convert_to_tfl_passes(merged, litert.passmanager.PassManager(), config)
    model = bytes(litert.converter.export_flatbuffer_to_bytes(merged.operation))
    _check_built_in(model)
    return model


def flat_function(signature: Signature) -> tuple[Any, list[Any]]:
    """The signature as a function of its named leaves in order, and example leaves."""
    leaves, structure = jax.tree.flatten(signature.example)

    def function(*leaves):
        return tuple(named(signature.function(**jax.tree.unflatten(structure, leaves))).values())

    return function, leaves


def _module(litert: SimpleNamespace, context: Any, signature: Signature) -> Any:
    """One signature as a StableHLO module, its inputs and outputs named."""
    function, leaves = flat_function(signature)
    # An input that the function does not read is still an input of the signature.
    exported = jax_export.export(jax.jit(function, keep_unused=True), platforms=["cpu"])(*leaves)
    with context:
        module = litert.stablehlo.deserialize_portable_artifact(context, exported.mlir_module_serialized)
    inputs, outputs = list(named(signature.example)), list(signature.outputs())
    litert.converter.set_signature(module.operation, signature_name=signature.name, input_names=inputs, output_names=outputs)
    return module


def _converter() -> SimpleNamespace:
    try:
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # else its import prints a line about it
        from litert_converter.mlir import ir, passmanager
        from litert_converter.mlir._mlir_libs import _stablehlo as stablehlo
        from litert_converter.mlir._mlir_libs import converter_api_ext as converter
    except ImportError as error:
        raise InputError(
            f"export: expected the package litert-converter; it cannot be imported ({error}); pip install jaxrec[device]"
        ) from None
    version = importlib.metadata.version("litert-converter")
    if not version.startswith(KNOWN_GOOD):
        warnings.warn(f"export: litert-converter {version} was not tried; {KNOWN_GOOD}x is known to work", stacklevel=3)
    return SimpleNamespace(ir=ir, passmanager=passmanager, stablehlo=stablehlo, converter=converter)


def _check_built_in(model: bytes) -> None:
    foreign = sorted(name for name in operations(model) if name.startswith(("custom", "STABLEHLO")))
    if foreign:
        raise RuntimeError(f"export: expected built-in operations only; the converter used {', '.join(foreign)}")
