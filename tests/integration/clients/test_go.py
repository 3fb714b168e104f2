"""The Go example: generated, built and run with Debian's Go, against a real server."""

from __future__ import annotations

import os
import re
import shutil
from importlib.resources import files
from pathlib import Path

import pytest

from podwire import errors
from tests.integration.clients.conftest import Server, run

ROOT = Path(__file__).parents[3]
TOOLS = ROOT / ".tools"
GO = TOOLS / "usr" / "lib" / "go-1.19" / "bin" / "go"

# Generating and building take half a minute the first time.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
async def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, built as docs/clients/go.md says, but from Debian's packages instead of modules."""
    assert GO.exists() and shutil.which("protoc-gen-go"), "this test needs Go: scripts/setup go unpacks it"
    workspace = tmp_path_factory.mktemp("go")
    sources = workspace / "src"
    (sources / "podwire.io").mkdir(parents=True)
    (sources / "podwire.io" / "example").symlink_to(ROOT / "clients" / "go" / "example")
    python = ROOT / ".venv" / "bin" / "python"
    protos = sorted(str(path.relative_to(ROOT / "protos")) for path in (ROOT / "protos/podwire/v1").glob("*.proto"))
    google = str(files("grpc_tools") / "_proto")
    include = [f"-I{ROOT / 'protos'}", f"-I{google}"]
    await run(python, "-m", "grpc_tools.protoc", *include, f"--go_out={sources}", f"--go-grpc_out={sources}", *protos)
    environment = {
        **os.environ,
        "GOROOT": str(GO.parents[1]),
        "GOPATH": f"{workspace}:{TOOLS / 'usr' / 'share' / 'gocode'}",
        "GOCACHE": str(TOOLS / "go-cache"),
        "GO111MODULE": "off",
        "CGO_ENABLED": "0",
    }
    program = workspace / "example"
    await run(GO, "build", "-o", program, "podwire.io/example", environment=environment, seconds=300)
    return program


@pytest.mark.parametrize("way", ["tls", "socket"])
async def test_the_go_example_writes_watches_and_understands_errors(server: Server, example: Path, way: str) -> None:
    tls = server.tls
    where = [server.address, tls.ca, tls.cert, tls.key] if way == "tls" else [server.socket]
    lines = await run(example, *where)
    assert re.fullmatch(r"pods: \d+ at revision \d+", lines[0])
    assert lines[1:] == [
        "created from-go",
        "MODIFIED from-go: blue",
        "a second one of that name: ALREADY_EXISTS (AlreadyExists)",
        "one that is not there: NOT_FOUND (NotFound)",
        "a pod without containers: INVALID (InvalidArgument) metadata.name, spec.containers",
        "deleted from-go",
    ]
    with pytest.raises(errors.NotFound):
        await server.client.config_maps.get("from-go", namespace="default")
