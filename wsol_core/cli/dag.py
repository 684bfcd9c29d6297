"""The chain of the stages as a picture: Mermaid text, or indented lines for a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from pathlib import PurePosixPath
from typing import NamedTuple

from wsol_core.core.params import content
from wsol_core.doctor.pipeline import Stage, read_pipeline

DATA = ("render_demo", "scan", "prepare")
REPORTS = ("report",)
NETWORKS = {"train": "network", "maps": "network", "transfer": "network"}
DETECTORS = {"train_detector": "detector", "detect": "detector"}
WHOLE = ("calibrate", "localize", "score_proposals", "proposals", *REPORTS)
"""Stages whose items are one node."""
BOXES = {"calibrate": "localize"}
"""Shown as part of another stage."""


class Node(NamedTuple):
    """A group of stages."""

    kind: str
    """the stage; `network` or `detector` of those that train it and those that run it"""
    item: str
    """its name in the parameters, or "" """


class Graph(NamedTuple):
    """Nodes in an order in which each stands after all that it needs."""

    parents: dict[Node, tuple[Node, ...]]
    """what a node needs, in the same order"""
    labels: dict[Node, str]
    """for a reader: the name, the method in brackets"""


def build_graph(stages: Sequence[Stage], methods: Mapping[str, str], everything: bool = False) -> Graph:
    """The stages in groups: a network's training and maps are one node, so are all methods' boxes.

    Args:
        stages: resolved.
        methods: of networks, by name.
        everything: with data sets, evaluations and pictures.
    """
    groups: dict[Node, list[Stage]] = {}
    for stage in stages:
        if everything or not _is_aside(stage):
            groups.setdefault(_node(stage), []).append(stage)
    makers = {PurePosixPath(out): node for node, own in groups.items() for stage in own for out in stage.outs}
    needs = {node: _needs(own, makers) - {node} for node, own in groups.items()}
    place = {node: number for number, node in enumerate(_ordered(needs))}
    parents = {node: tuple(sorted(needs[node], key=place.__getitem__)) for node in place}
    return Graph(parents, {node: _label(node, methods) for node in place})


def read_graph(everything: bool = False) -> Graph:
    """The graph of `dvc.yaml` and `params.yaml` here.

    Raises:
        InputError: this is no DVC project, or its parameters do not fit the pipeline.
    """
    networks = content("networks") or {}
    methods = {name: str(entry.get("method", "")) for name, entry in networks.items()}
    return build_graph(read_pipeline().stages, methods, everything)


def mermaid(graph: Graph) -> str:
    """A flowchart in Mermaid's words."""
    numbers = {node: f"n{number}" for number, node in enumerate(graph.parents)}
    lines = [f'  {numbers[node]}["{label}"]' for node, label in graph.labels.items()]
    edges = [f"  {numbers[parent]} --> {numbers[node]}" for node, own in graph.parents.items() for parent in own]
    return "\n".join(["flowchart LR", *lines, *edges])


def tree(graph: Graph) -> Iterator[str]:
    """A line for each node, indented below the last of what it needs; what else it needs stands behind it."""
    children: dict[Node | None, list[Node]] = {}
    for node, parents in graph.parents.items():
        children.setdefault(parents[-1] if parents else None, []).append(node)

    def lines(parent: Node | None, depth: int) -> Iterator[str]:
        for node in children.get(parent, ()):
            others = ", ".join(graph.labels[each].split(" [")[0] for each in graph.parents[node][:-1])
            yield f"{'  ' * depth}{graph.labels[node]}{f'  <- {others}' if others else ''}"
            yield from lines(node, depth + 1)

    yield from lines(None, 0)


def _is_aside(stage: Stage) -> bool:
    return stage.name in (*DATA, *REPORTS) or stage.name.startswith("evaluate_")


def _node(stage: Stage) -> Node:
    kind = {**NETWORKS, **DETECTORS, **BOXES}.get(stage.name, stage.name)
    return Node(kind, "" if kind in WHOLE or kind.startswith("evaluate_") else stage.item)


def _needs(stages: Sequence[Stage], makers: Mapping[PurePosixPath, Node]) -> set[Node]:
    """The makers of the files that stages read, of folders that hold them, and of files in folders."""
    deps = {PurePosixPath(dep) for stage in stages for dep in stage.deps}
    return {
        maker
        for out, maker in makers.items()
        if any(dep.is_relative_to(out) or out.is_relative_to(dep) for dep in deps)
    }


def _ordered(needs: Mapping[Node, set[Node]]) -> Iterator[Node]:
    """Level by level, each node after what it needs; in a level in the order of the stages."""
    sorter, order = TopologicalSorter(needs), list(needs)
    sorter.prepare()
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=order.index)
        sorter.done(*ready)
        yield from ready


def _label(node: Node, methods: Mapping[str, str]) -> str:
    if node.kind == "network":
        return f"{node.item} [{methods.get(node.item, node.kind)}]"
    return f"{node.item} [{node.kind}]" if node.item else node.kind
