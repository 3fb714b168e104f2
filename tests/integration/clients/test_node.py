"""The Node client's example, run by Node against a real server."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from podwire import errors
from tests.integration.clients.conftest import Server, run

FOLDER = Path(__file__).parents[3] / "clients" / "node"


@pytest.fixture
def node() -> str:
    program = shutil.which("node")
    assert program, "this test needs Node: scripts/setup node installs it"
    assert (FOLDER / "node_modules" / "@grpc").is_dir(), "this test needs Node's packages: scripts/setup node"
    return program


@pytest.mark.parametrize("way", ["tls", "socket"])
async def test_the_node_example_writes_watches_and_understands_errors(server: Server, node: str, way: str) -> None:
    tls = server.tls
    where = [server.address, tls.ca, tls.cert, tls.key] if way == "tls" else [server.socket]
    lines = await run(node, FOLDER / "example.js", *where)
    assert re.fullmatch(r"pods: \d+ at revision \d+", lines[0])
    assert lines[1:] == [
        "created from-node",
        "MODIFIED from-node: blue",
        "a second one of that name: ALREADY_EXISTS (ALREADY_EXISTS)",
        "one that is not there: NOT_FOUND (NOT_FOUND)",
        "a pod without containers: INVALID (INVALID_ARGUMENT) metadata.name, spec.containers",
        "deleted from-node",
    ]
    with pytest.raises(errors.NotFound):
        await server.client.config_maps.get("from-node", namespace="default")


# What PodwireError makes of statuses that come as hexadecimal text, as JSON.
UNDERSTAND = """
import {{ PodwireError }} from '{module}';
const understood = process.argv.slice(1).map((hex) => {{
  const metadata = {{ get: () => [Buffer.from(hex, 'hex')] }};
  const {{ reason, fields, retryAfter }} = new PodwireError({{ code: 2, details: '', metadata }});
  return {{ reason, fields, retryAfter }};
}});
console.log(JSON.stringify(understood));
"""


async def test_the_node_client_understands_every_error(node: str) -> None:
    all_of_them = [kind("no") for kind in errors.ERRORS]
    wrong = errors.Invalid("no", [errors.FieldError("spec.containers", "Required value")])
    busy = errors.Overloaded("busy", retry_after=1.5)
    given = [errors.to_status(error).SerializeToString().hex() for error in (*all_of_them, wrong, busy)]
    script = UNDERSTAND.format(module=(FOLDER / "index.js").as_uri())
    (line,) = await run(node, "--input-type=module", "--eval", script, *given)
    understood = json.loads(line)
    assert [one["reason"] for one in understood] == [error.reason for error in (*all_of_them, wrong, busy)]
    assert understood[-2]["fields"] == [{"path": "spec.containers", "message": "Required value"}]
    assert understood[-1]["retryAfter"] == 1.5
