"""SavedModels whose bytes depend on nothing but their content.

TensorFlow numbers functions by a counter of the process, writes them in no order, and names lookup
tables after the path of their vocabulary on the exporting machine. All of this is without meaning and
differs from run to run; without it, equal models are equal files and not published as two versions.
"""

import re
from collections.abc import Iterable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

_GRAPH = "saved_model.pb"
_FINGERPRINT = "fingerprint.pb"  # digests of the original graph, which readers do not need
_COUNTED = re.compile("_[0-9]+$")
# TensorFlow adds this to the name of a table when it loads a model.
_LOADED = re.compile(rb"_load(_[0-9]+)+$")
_LABEL = "_user_specified_name"


def canonicalise(folder: Path) -> None:
    """Rewrites the graph of the SavedModel in `folder`."""
    file = folder / _GRAPH
    file.write_bytes(canonical(file.read_bytes()))
    (folder / _FINGERPRINT).unlink(missing_ok=True)


def canonical(graph: bytes) -> bytes:
    """An equivalent `saved_model.pb`: functions are numbered as they are first used, and tables have the
    name of the vocabulary's file without its folder.
    """
    # Here, as contracts must be importable without TensorFlow
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
                # The label of a captured tensor is the process's counter.
                if _LABEL in argument.attr and argument.attr[_LABEL].s.isdigit():
                    argument.attr[_LABEL].s = function.signature.input_arg[n].name.encode()
        _rename_objects(meta.object_graph_def, new)
        library.function.sort(key=lambda function: int(function.signature.name.rsplit("_", 1)[1]))
    serialized: bytes = saved.SerializeToString(deterministic=True)
    return serialized


def _order(meta: Any) -> list[str]:
    """Names of all functions in the order in which the graph and the objects refer to them, each followed
    by those that it calls.
    """
    bodies = {function.signature.name: function for function in meta.graph_def.library.function}
    ordered: dict[str, None] = {}

    def visit(names: Iterable[str]) -> None:
        for name in names:
            if name in bodies and name not in ordered:
                ordered[name] = None
                visit(_called(bodies[name].node_def))

    visit(_called(meta.graph_def.node))
    for node in meta.object_graph_def.nodes:
        visit(node.function.concrete_functions)
        visit([node.bare_concrete_function.concrete_function_name])
    visit(sorted(bodies, key=lambda name: (len(name), name)))
    return list(ordered)


def _nodes(meta: Any) -> Iterator[Any]:
    yield from meta.graph_def.node
    for function in meta.graph_def.library.function:
        yield from function.node_def


def _called(nodes: Any) -> Iterator[str]:
    for node in nodes:
        yield from (called.name for called in _calls(node))


def _calls(holder: Any) -> Iterator[Any]:
    """The functions among the attributes of a node, in order of attribute, and among the attributes of
    these functions.
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
