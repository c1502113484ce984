"""The shape of module classes: what their bodies show without being run."""

from __future__ import annotations

from collections.abc import Iterator

from trainlint.core.events import (
    Event,
    FunctionalDropout,
    LayerCreatedInForward,
    ModuleClassDefined,
)
from trainlint.core.facts import Site
from trainlint.flow.containers import unregistered
from trainlint.flow.dropouts import dropouts_of
from trainlint.flow.layers import created_in_forward
from trainlint.flow.overrides import overrides_of
from trainlint.flow.project import ClassInfo, ModuleInfo
from trainlint.flow.reading import certain_module, classes_of
from trainlint.flow.record import Recorder

SHAPE_EVENTS: frozenset[type[Event]] = frozenset(
    {ModuleClassDefined, LayerCreatedInForward, FunctionalDropout}
)
"""What is raised without interpreting anything."""


def look_at(info: ModuleInfo, recorder: Recorder) -> None:
    """Raise the events of every module class that stands in a file."""
    if not any(map(recorder.listens, SHAPE_EVENTS)):
        return
    for node in classes_of(info.module):
        cls = info.class_info(node)
        if certain_module(cls):
            for event in _events(cls, recorder):
                recorder.raise_event(event)


def _events(info: ClassInfo, recorder: Recorder) -> Iterator[Event]:
    if recorder.listens(ModuleClassDefined):
        yield ModuleClassDefined(
            site=Site(info.module.path, info.node.name_node),
            name=info.name,
            overrides=overrides_of(info),
            unregistered=unregistered(info),
        )
    if recorder.listens(LayerCreatedInForward):
        yield from created_in_forward(info)
    if recorder.listens(FunctionalDropout):
        yield from dropouts_of(info)


__all__ = ["SHAPE_EVENTS", "look_at"]
