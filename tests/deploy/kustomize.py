"""Just enough of kustomize to see the objects that an overlay makes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]
# By what the items of a list are told apart when a patch meets them.
_KEYS = ("name", "mountPath", "containerPort")


def build(folder: Path) -> list[Object]:
    """Returns the objects of a kustomization, with its components, patches and replicas applied."""
    settings = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    known = {"apiVersion", "kind", "namespace", "labels", "resources", "components", "configMapGenerator"}
    assert set(settings) <= known | {"replicas", "patches"}, settings
    objects: list[Object] = []
    for name in (*settings.get("resources", []), *settings.get("components", [])):
        path = folder / name
        objects += build(path) if path.is_dir() else read(path)
    for generated in settings.get("configMapGenerator", []):
        files = {name: (folder / name).read_text(encoding="utf-8") for name in generated["files"]}
        metadata = {"name": generated["name"]}
        objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": files})
    for patch in settings.get("patches", []):
        for change in read(folder / patch["path"]):
            merge(find(objects, change["kind"], change["metadata"]["name"]), change)
    for replicas in settings.get("replicas", []):
        find(objects, "Deployment", replicas["name"])["spec"]["replicas"] = replicas["count"]
    for one in objects:
        if "namespace" in settings and one["kind"] != "Namespace":
            one["metadata"]["namespace"] = settings["namespace"]
    return objects


def read(path: Path) -> list[Object]:
    """Returns the objects of a file."""
    return [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]


def find(objects: list[Object], kind: str, name: str) -> Object:
    """Returns the one object of this kind and name."""
    [found] = [one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def merge(target: Object, change: Object) -> None:
    """Changes an object as a strategic merge does: None takes away, lists meet by what their items are called."""
    for key, value in change.items():
        present = target.get(key)
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict) and isinstance(present, dict):
            merge(present, value)
        elif isinstance(value, list) and isinstance(present, list) and all(isinstance(one, dict) for one in value):
            _merge_lists(present, value)
        else:
            target[key] = copy.deepcopy(value)


def _merge_lists(present: list[Object], change: list[Object]) -> None:
    for one in change:
        key = next(key for key in reversed(_KEYS) if key in one) if "mountPath" in one else "name"
        same = [other for other in present if other.get(key) == one[key]]
        if same:
            merge(same[0], one)
        else:
            present.append({name: value for name, value in one.items() if value is not None})
