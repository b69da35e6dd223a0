"""The project's packages, imported once before processes are forked, for those that would import the same files."""

from __future__ import annotations

import os
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


class KeptRooms(MetaPathFinder, Loader):
    """Takes packages out of `sys.modules`; gives all back at the first import, if `sys.path` leads to the same files.

    If it leads to another copy of any of them, or to none, all are imported from there as ever.
    """

    def __init__(self, rooms: tuple[str, ...]) -> None:
        self._files = {room: os.path.realpath(str(sys.modules[room].__file__)) for room in rooms}
        names = [name for name in sys.modules if name.partition(".")[0] in self._files]
        self._modules = {name: sys.modules.pop(name) for name in names}
        self._spec: ModuleSpec | None = None

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The kept package, or None for what is to be imported."""
        if name not in self._files:
            return None
        sys.meta_path.remove(self)  # decided once, for all of them
        found = {room: PathFinder.find_spec(room) for room in self._files}
        if any(not spec or os.path.realpath(str(spec.origin)) != self._files[room] for room, spec in found.items()):
            return None
        sys.modules.update(self._modules)
        self._spec = self._modules[name].__spec__
        return ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module as it was."""
        return self._modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: it was run before."""
        module.__spec__ = self._spec
