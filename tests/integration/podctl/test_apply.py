"""podctl apply among other managers, and podctl diff."""

from __future__ import annotations

from podwire.client import Client
from tests.integration.podctl.command import Podctl

CONFIG_MAP = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {a: "1", b: "2"}
"""
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "nginx:1"}]}
"""


async def test_a_conflict_is_told_by_field_and_owner_and_force_ends_it(podctl: Podctl, client: Client) -> None:
    await podctl("apply", "--server-side", "--field-manager=team-a", "-f", "-", stdin=CONFIG_MAP)
    changed = CONFIG_MAP.replace('"1"', '"9"')
    for mode in ("server", "none"):
        output = await podctl("apply", "-f", "-", f"--dry-run={mode}", stdin=changed, status=1)
        assert output.err.startswith(
            'error: ConfigMap "settings" was not applied, with 1 conflict:\nconflict with "team-a":\n  data[a]\n'
        )
        assert "--force-conflicts" in output.err
        assert output.out == ""
    forced = await podctl("apply", "--force-conflicts", "-f", "-", stdin=changed)
    assert forced.out == "configmap/settings configured\n"
    found = await client.config_maps.get("settings", namespace=podctl.namespace)
    assert dict(found.data) == {"a": "9", "b": "2"}


async def test_what_podctls_own_commands_changed_is_no_conflict(podctl: Podctl, client: Client) -> None:
    async def replicas() -> int:
        return (await client.deployments.get("web", namespace=podctl.namespace)).spec.replicas

    await podctl("create", "-f", "-", stdin=DEPLOYMENT)
    await podctl("apply", "-f", "-", stdin=DEPLOYMENT.replace("nginx:1", "nginx:2"))
    await podctl("scale", "deploy/web", "--replicas=3")
    await podctl("apply", "-f", "-", stdin=DEPLOYMENT.replace("  replicas: 1\n", ""))
    assert await replicas() == 3
    await podctl("apply", "-f", "-", stdin=DEPLOYMENT)
    assert await replicas() == 1


async def test_who_owns_what_is_shown_where_it_is_asked_for(podctl: Podctl) -> None:
    await podctl("apply", "--field-manager=team-a", "-f", "-", stdin=CONFIG_MAP)
    assert "team-a" not in (await podctl("get", "cm/settings", "-o", "yaml")).out
    assert "team-a" in (await podctl("get", "cm/settings", "-o", "yaml", "--show-managed-fields")).out


async def test_a_diff_shows_what_apply_would_change_and_changes_nothing(podctl: Podctl) -> None:
    new = await podctl("diff", "-f", "-", stdin=CONFIG_MAP, status=1)
    assert "+++ merged/configmap/settings\n" in new.out
    await podctl("apply", "-f", "-", stdin=CONFIG_MAP)
    assert (await podctl("diff", "-f", "-", stdin=CONFIG_MAP)).out == ""
    changed = CONFIG_MAP.replace('b: "2"', 'c: "3"')
    for _ in range(2):
        output = await podctl("diff", "-f", "-", stdin=changed, status=1)
        lines = [line for line in output.out.splitlines()[2:] if line[0] in "+-"]
        assert lines == ["-  b: '2'", "+  c: '3'"]


async def test_a_diff_that_fails_ends_with_more_than_one(podctl: Podctl) -> None:
    await podctl("apply", "--field-manager=team-a", "-f", "-", stdin=CONFIG_MAP)
    conflict = await podctl("diff", "-f", "-", stdin=CONFIG_MAP.replace('"1"', '"9"'), status=2)
    assert 'conflict with "team-a":\n  data[a]\n' in conflict.err
    await podctl("diff", "-f", "-", stdin=CONFIG_MAP.replace("data", "dta"), status=2)
    await podctl("diff", "--server-side=false", "-f", "-", stdin=CONFIG_MAP, status=2)
