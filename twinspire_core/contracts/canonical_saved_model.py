"""SavedModels whose bytes follow from what they hold.

TensorFlow numbers functions by a counter of the process, writes them in no order, and names lookup
tables after the place of their vocabulary on the disk of whoever exported. None of it has a
meaning, and all of it differs from run to run; so equal models would be unequal files, and
published as two versions.
"""

import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

_GRAPH = "saved_model.pb"
_FINGERPRINT = "fingerprint.pb"  # digests of the graph as it was before; readers do without
_COUNTED = re.compile("_[0-9]+$")
# What TensorFlow adds to the name of a table in a model that it loads
_LOADED = re.compile(rb"_load(_[0-9]+)+$")
_LABEL = "_user_specified_name"


def canonicalise(folder: Path) -> None:
    """Rewrites the graph of the SavedModel in `folder`."""
    file = folder / _GRAPH
    file.write_bytes(canonical(file.read_bytes()))
    (folder / _FINGERPRINT).unlink(missing_ok=True)


def canonical(graph: bytes) -> bytes:
    """The same `saved_model.pb`: functions numbered as they are met, tables named after the
    vocabulary's file alone.
    """
    # Here, as a contract imports no TensorFlow
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString(graph)
    for meta in saved.meta_graphs:
        library = meta.graph_def.library
        new = {name: f"{_COUNTED.sub('', name)}_{n}" for n, name in enumerate(_order(meta))}
        for node in _nodes(meta):
            if node.op == "HashTableV2":
                node.attr["shared_name"].s = _LOADED.sub(
                    b"", node.attr["shared_name"].s.split(b"/")[-1]
                )
            for called in _calls(node):
                called.name = new[called.name]
        for function in library.function:
            function.signature.name = new[function.signature.name]
            for n, argument in function.arg_attr.items():
                # A captured tensor, and the counter
                if _LABEL in argument.attr and argument.attr[_LABEL].s.isdigit():
                    argument.attr[_LABEL].s = function.signature.input_arg[n].name.encode()
        _rename_objects(meta.object_graph_def, new)
        library.function.sort(key=lambda function: int(function.signature.name.rsplit("_", 1)[1]))
    serialized: bytes = saved.SerializeToString(deterministic=True)
    return serialized


def _order(meta: Any) -> list[str]:
    """Names of all functions: as the graph and the objects refer to them, each followed by those
    that it calls.
    """
    bodies = {function.signature.name: function for function in meta.graph_def.library.function}
    found: dict[str, None] = {}

    def visit(names: Iterator[str]) -> None:
        for name in names:
            if name in bodies and name not in found:
                found[name] = None
                visit(_called(bodies[name].node_def))

    visit(_called(meta.graph_def.node))
    for node in meta.object_graph_def.nodes:
        visit(
            iter(
                [
                    *node.function.concrete_functions,
                    node.bare_concrete_function.concrete_function_name,
                ]
            )
        )
    visit(iter(sorted(bodies, key=lambda name: (len(name), name))))
    return list(found)


def _nodes(meta: Any) -> Iterator[Any]:
    yield from meta.graph_def.node
    for function in meta.graph_def.library.function:
        yield from function.node_def


def _called(nodes: Any) -> Iterator[str]:
    for node in nodes:
        yield from (called.name for called in _calls(node))


def _calls(holder: Any) -> Iterator[Any]:
    """The functions among the attributes of a node, in order of attribute; and those among their
    own attributes.
    """
    for name in sorted(holder.attr):
        value = holder.attr[name]
        for called in [value.func] if value.HasField("func") else value.list.func:
            yield called
            yield from _calls(called)


def _rename_objects(objects: Any, new: dict[str, str]) -> None:
    for node in objects.nodes:
        if node.HasField("function"):
            node.function.concrete_functions[:] = [
                new[name] for name in node.function.concrete_functions
            ]
        if node.HasField("bare_concrete_function"):
            bare = node.bare_concrete_function
            bare.concrete_function_name = new[bare.concrete_function_name]
    described = {
        new[name]: deepcopy(function) for name, function in objects.concrete_functions.items()
    }
    objects.concrete_functions.clear()
    for name, function in described.items():
        objects.concrete_functions[name].CopyFrom(function)
