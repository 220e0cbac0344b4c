"""What an exported file asks of a device: the operations of every signature, and their multiply-adds, read from the file itself.

The module that reads the file's format is imported where it is used: it weighs more than the device's runtime, whose memory is measured.
"""

import math
from collections import Counter
from typing import Any

FULLY_CONNECTED, BATCH_MATMUL = "FULLY_CONNECTED", "BATCH_MATMUL"


def operations(model: bytes) -> set[str]:
    """Names of the operations that a TFLite file uses; one that is not built in is named "custom:NAME"."""
    return set(_names(_root(model)))


def workload(model: bytes) -> dict[str, dict[str, Any]]:
    """What one call of each signature computes, by the signature's name.

    Returns:
      operations: how many of each, the most frequent first; multiply_adds: those of its matrix products, element-wise work not counted.
    """
    root = _root(model)
    names = _names(root)
    entries = [root.SignatureDefs(number) for number in range(root.SignatureDefsLength())]
    return {entry.SignatureKey().decode(): _counted(root.Subgraphs(entry.SubgraphIndex()), names) for entry in entries}


def _counted(graph: Any, names: list[str]) -> dict[str, Any]:
    nodes = [graph.Operators(number) for number in range(graph.OperatorsLength())]
    kinds = [names[node.OpcodeIndex()] for node in nodes]
    products = sum(_multiply_adds(graph, node, kind) for node, kind in zip(nodes, kinds, strict=True))
    return {"operations": dict(Counter(kinds).most_common()), "multiply_adds": products}


def _multiply_adds(graph: Any, node: Any, kind: str) -> int:
    """Entries of the product times the length of the sums that make one."""
    if kind == FULLY_CONNECTED:
        summed = _shape(graph, node.Inputs(1))[-1]
    elif kind == BATCH_MATMUL:
        summed = _shape(graph, node.Inputs(0))[-2 if _transposes_first(node) else -1]
    else:
        return 0
    return math.prod(_shape(graph, node.Outputs(0))) * summed


def _transposes_first(node: Any) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    table, options = node.BuiltinOptions(), schema.BatchMatMulOptions()
    if table is None:
        return False
    options.Init(table.Bytes, table.Pos)
    return options.AdjX()


def _shape(graph: Any, tensor: int) -> tuple[int, ...]:
    found = graph.Tensors(tensor)
    return tuple(found.Shape(axis) for axis in range(found.ShapeLength()))


def _root(model: bytes) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    return schema.Model.GetRootAs(model, 0)


def _names(root: Any) -> list[str]:
    """Name of each operation by its number within the file."""
    from ai_edge_litert import schema_py_generated as schema

    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    return [_name(root.OperatorCodes(number), names) for number in range(root.OperatorCodesLength())]


def _name(code: Any, names: dict[int, str]) -> str:
    custom = code.CustomCode()
    # Older files keep the number in a field of one byte.
    return f"custom:{custom.decode()}" if custom else names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
