"""Hatch build hook: generates the gRPC and typing stubs from `protos/` into the git-ignored package `unmute/`."""

from __future__ import annotations

import shutil
import sys
from importlib import resources
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "unmute"


def generate(root: Path) -> Path:
    """Generates Python stubs for every proto under `root/protos` and returns the package's folder.

    Raises:
        RuntimeError: protoc refused a file; its own message went to stderr.
    """
    from grpc_tools import protoc

    source, target = root / "protos", root / PACKAGE
    files = sorted(str(path.relative_to(source)) for path in source.rglob("*.proto"))
    if target.exists():
        shutil.rmtree(target)
    scripts = Path(sys.executable).parent
    plugins = [
        f"--plugin=protoc-gen-{name}={found}"
        for name in ("mypy", "mypy_grpc")
        if (found := shutil.which(f"protoc-gen-{name}") or shutil.which(f"protoc-gen-{name}", path=str(scripts)))
    ]
    arguments = [
        "protoc",
        f"--proto_path={source}",
        f"--proto_path={resources.files('grpc_tools') / '_proto'}",
        f"--python_out={root}",
        f"--grpc_python_out={root}",
        *plugins,
        f"--mypy_out=quiet:{root}",
        f"--mypy_grpc_out=quiet:{root}",
        *files,
    ]
    if protoc.main(arguments) != 0:
        raise RuntimeError("protoc failed on protos/: see its message above")
    for folder in [target, *(path for path in target.rglob("*") if path.is_dir())]:
        (folder / "__init__.py").touch()
    (target / "py.typed").touch()
    return target


class ProtoStubsHook(BuildHookInterface[Any]):
    """Runs `generate` before a wheel or an editable install is built."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Generates the stubs; a wheel gets them as files, an editable install finds them in the root."""
        if self.target_name != "wheel":
            return
        target = generate(Path(self.root))
        if version != "editable":
            build_data["force_include"][str(target)] = PACKAGE
            # The characters that are there when a user has no file of their own.
            build_data["force_include"][str(Path(self.root) / "voices.yaml")] = "orchestrator/voices.yaml"


if __name__ == "__main__":
    print(generate(Path(__file__).resolve().parent))
