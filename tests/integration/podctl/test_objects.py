"""Applying, showing, waiting for and deleting objects, through a real API on a real etcd."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from podwire import errors, v1
from podwire.client import Client
from tests.integration.podctl.command import Podctl

POD = """
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {app: web}
spec:
  containers:
  - name: main
    image: nginx
"""
CONFIG_MAP = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: red}
"""
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: nginx}]}
"""


async def test_apply_creates_then_leaves_alone_then_configures(podctl: Podctl, tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(POD + "---" + CONFIG_MAP)
    assert (await podctl("apply", "-f", str(file))).out == "pod/web created\nconfigmap/settings created\n"
    assert (await podctl("apply", "-f", str(file))).out == "pod/web unchanged\nconfigmap/settings unchanged\n"
    file.write_text(CONFIG_MAP.replace("red", "blue"))
    assert (await podctl("apply", "-f", str(tmp_path))).out == "configmap/settings configured\n"
    shown = await podctl("get", "cm", "settings", "-o", "jsonpath={.data.colour}")
    assert shown.out == "blue"


async def test_nothing_is_sent_when_one_document_is_bad(podctl: Podctl) -> None:
    output = await podctl("apply", "-f", "-", stdin=CONFIG_MAP + "---" + POD.replace("image", "imagee"), status=1)
    assert "stdin:" in output.err and "spec.containers[0].imagee" in output.err
    assert (await podctl("get", "cm,pods")).err == f"No resources found in {podctl.namespace} namespace.\n"


async def test_what_the_server_refuses_does_not_stop_the_other_documents(podctl: Podctl) -> None:
    await podctl("apply", "-f", "-", stdin=POD)
    changed = POD.replace("name: main", "name: other")
    output = await podctl("apply", "-f", "-", stdin=changed + "---" + CONFIG_MAP, status=1)
    assert output.out == "configmap/settings created\n"
    assert 'Pod "web"' in output.err or "spec.containers" in output.err


async def test_a_dry_run_changes_nothing(podctl: Podctl) -> None:
    for mode, suffix in (("client", "dry run"), ("server", "server dry run")):
        output = await podctl("apply", "-f", "-", f"--dry-run={mode}", stdin=POD)
        assert output.out == f"pod/web created ({suffix})\n"
    await podctl("get", "pod", "web", status=1)


async def test_create_refuses_what_is_there(podctl: Podctl) -> None:
    assert (await podctl("create", "-f", "-", stdin=POD)).out == "pod/web created\n"
    output = await podctl("create", "-f", "-", stdin=POD, status=1)
    assert "AlreadyExists" in output.err


async def test_a_namespace_is_created_and_deleted_with_what_is_in_it(podctl: Podctl, client: Client) -> None:
    name = f"{podctl.namespace}-own"
    assert (await podctl("create", "namespace", name)).out == f"namespace/{name} created\n"
    await podctl("apply", "-n", name, "-f", "-", stdin=CONFIG_MAP)
    assert (await podctl("delete", "ns", name)).out == f'namespace "{name}" deleted\n'
    with pytest.raises(errors.NotFound):
        await client.namespaces.get(name)


async def test_lists_as_tables(podctl: Podctl) -> None:
    await podctl("apply", "-f", "-", stdin=POD + "---" + CONFIG_MAP)
    header, row = (await podctl("get", "pods")).rows
    assert header == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert row[:4] == ["web", "0/1", "Pending", "0"]
    assert (await podctl("get", "pods", "--no-headers")).rows[0][0] == "web"
    both = (await podctl("get", "pods,cm", "-l", "app!=api")).out
    assert "pod/web " in both and "\n\nNAME" in both and "configmap/settings " in both
    everywhere = (await podctl("get", "po", "-A", "-o", "wide")).rows
    assert everywhere[0][:2] == ["NAMESPACE", "NAME"]
    assert [podctl.namespace, "web"] in [row[:2] for row in everywhere]
    assert (await podctl("get", "pods", "-l", "app=api")).out == ""
    labelled = await podctl("get", "pods", "--show-labels", "--field-selector", "status.phase=Pending")
    assert labelled.rows[1][-1] == "app=web"


async def test_whole_objects_can_be_applied_again(podctl: Podctl) -> None:
    await podctl("apply", "-f", "-", stdin=POD)
    for form in ("yaml", "json"):
        shown = (await podctl("get", "pod/web", "-o", form)).out
        assert (await podctl("apply", "-f", "-", stdin=shown)).out.startswith("pod/web ")
    assert (await podctl("get", "pods", "-o", "name")).out == "pod/web\n"


async def test_what_is_not_there_is_said_and_the_rest_is_shown(podctl: Podctl) -> None:
    await podctl("apply", "-f", "-", stdin=POD)
    output = await podctl("get", "pods", "web", "x", status=1)
    assert output.rows[1][0] == "web"
    assert output.err == 'Error from server (NotFound): pods "x" not found\n'
    output = await podctl("get", "deploy/x", status=1)
    assert output.err == 'Error from server (NotFound): deployments.apps "x" not found\n'
    assert (await podctl("get", "pod", "x", "--ignore-not-found")).err == ""


async def test_a_watch_shows_every_change(podctl: Podctl, client: Client) -> None:
    await podctl("apply", "-f", "-", stdin=POD)
    watching = await podctl.start("get", "pods", "-w")
    assert watching.stdout is not None
    async with asyncio.timeout(20):
        assert (await watching.stdout.readline()).startswith(b"NAME")
        assert b"Pending" in await watching.stdout.readline()
        pod = await client.pods.get("web", namespace=podctl.namespace)
        pod.status.phase = "Running"
        await client.pods.update_status(pod)
        assert b"Running" in await watching.stdout.readline()
    watching.kill()
    await watching.wait()


async def test_deleting_by_file_by_label_and_all(podctl: Podctl) -> None:
    await podctl("apply", "-f", "-", stdin=POD + "---" + CONFIG_MAP)
    output = await podctl("delete", "-f", "-", stdin=POD + "---" + CONFIG_MAP)
    assert output.out == 'pod "web" deleted\nconfigmap "settings" deleted\n'
    output = await podctl("delete", "-f", "-", stdin=POD, status=1)
    assert output.err == 'Error from server (NotFound): pods "web" not found\n'
    await podctl("delete", "-f", "-", "--ignore-not-found", stdin=POD)
    await podctl("apply", "-f", "-", stdin=POD)
    assert (await podctl("delete", "pods", "-l", "app=api")).err == "No resources found\n"
    assert (await podctl("delete", "pods", "-l", "app=web")).out == 'pod "web" deleted\n'
    await podctl("apply", "-f", "-", stdin=CONFIG_MAP)
    assert (await podctl("delete", "cm", "--all")).out == 'configmap "settings" deleted\n'
    assert "say which of them" in (await podctl("delete", "pods", status=2)).err


async def test_a_deletion_waits_until_the_pod_is_gone(podctl: Podctl, client: Client) -> None:
    await podctl("apply", "-f", "-", stdin=POD)
    pod = await client.pods.get("web", namespace=podctl.namespace)
    await client.pods.bind("web", podctl.namespace, pod.metadata.uid, "node1")
    deleting = await podctl.start("delete", "pod", "web", "--grace-period=60")
    async with asyncio.timeout(20):
        async for event in client.pods.watch(namespace=podctl.namespace, send_initial_events=True):
            if event.object.metadata.HasField("deletion_timestamp"):
                break
        assert event.object.metadata.deletion_grace_period_seconds == 60
        assert deleting.returncode is None
        # What the agent does when the containers have ended.
        await client.pods.delete("web", namespace=podctl.namespace, uid=pod.metadata.uid, grace_period_seconds=0)
        out, _ = await deleting.communicate()
    assert out == b'pod "web" deleted\n'
    assert deleting.returncode == 0


async def test_a_deletion_that_takes_too_long_says_so(podctl: Podctl, client: Client) -> None:
    await podctl("apply", "-f", "-", stdin=POD)
    pod = await client.pods.get("web", namespace=podctl.namespace)
    await client.pods.bind("web", podctl.namespace, pod.metadata.uid, "node1")
    assert "timed out" in (await podctl("delete", "pod", "web", "--timeout=200ms", status=1)).err
    await podctl("delete", "pod", "web", "--wait=false")
    forced = await podctl("delete", "pod", "web", "--force")
    assert forced.out == 'pod "web" force deleted\n' and "Warning" in forced.err
    await podctl("get", "pod", "web", status=1)


async def test_waiting_for_conditions(podctl: Podctl, client: Client) -> None:
    await podctl("apply", "-f", "-", stdin=POD)
    output = await podctl("wait", "--for=condition=Ready", "pod/web", "--timeout=200ms", status=1)
    assert output.err == "error: timed out waiting for the condition on pod/web\n"
    waiting = await podctl.start("wait", "--for=condition=Ready", "pods", "--all")
    pod = await client.pods.get("web", namespace=podctl.namespace)
    pod.status.phase = "Running"
    pod.status.conditions.add(type="Ready", status="True")
    await client.pods.update_status(pod)
    async with asyncio.timeout(20):
        out, _ = await waiting.communicate()
    assert out == b"pod/web condition met\n"
    assert waiting.returncode == 0
    await podctl("wait", "--for=jsonpath={.status.phase}=Running", "pod", "web")
    assert "not found" in (await podctl("wait", "--for=condition=Ready", "pod/x", status=1)).err
    await podctl("wait", "--for=delete", "pod/x")
    await podctl("delete", "pod", "web")
    assert (await podctl("wait", "--for=delete", "pod/web")).status == 0


async def test_scaling_and_the_status_of_a_rollout(podctl: Podctl, client: Client) -> None:
    await podctl("apply", "-f", "-", stdin=DEPLOYMENT)
    assert (await podctl("scale", "deploy/web", "--replicas=3")).out == "deployment.apps/web scaled\n"
    assert (await client.deployments.get("web", namespace=podctl.namespace)).spec.replicas == 3
    assert (
        "expected 7" in (await podctl("scale", "deploy", "web", "--replicas=1", "--current-replicas=7", status=1)).err
    )
    assert "Waiting for deployment" in (await podctl("rollout", "status", "deploy/web", "--watch=false")).out
    assert "cannot be scaled" in (await podctl("scale", "pod/web", "--replicas=1", status=1)).err


async def test_events_are_shown_in_order_and_counted(podctl: Podctl, client: Client) -> None:
    await podctl("apply", "-f", "-", stdin=POD)
    pod = await client.pods.get("web", namespace=podctl.namespace)
    for index, (reason, count) in enumerate([("Unhealthy", 771), ("Started", 1)]):
        event = v1.Event(
            metadata=v1.ObjectMeta(name=f"web.{index}", namespace=podctl.namespace),
            type="Warning" if count > 1 else "Normal",
            reason=reason,
            message=f"{reason}!",
            count=count,
        )
        event.involved_object.kind, event.involved_object.name = "Pod", "web"
        event.involved_object.uid, event.involved_object.namespace = pod.metadata.uid, podctl.namespace
        event.last_timestamp.GetCurrentTime()
        event.last_timestamp.seconds -= index
        event.first_timestamp.CopyFrom(event.last_timestamp)
        event.first_timestamp.seconds -= 42 * 60 * (count > 1)
        await client.events.create(event)
    described = (await podctl("describe", "pod", "web")).out
    assert "(x771 over 42m)" in described
    assert described.index("Started!") < described.index("Unhealthy!")
    rows = (await podctl("events", "--for", "pod/web")).out.splitlines()
    assert rows[0].split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert "Started!" in rows[1] and "(x771 over 42m)" in rows[2]
    assert "Started!" not in (await podctl("events", "--types=Warning")).out
    assert "x771" not in (await podctl("get", "events")).out


@pytest.mark.parametrize("kind", ["pods", "ns", "deploy", "rs", "svc", "cm", "ep", "all"])
async def test_every_kind_can_be_described(podctl: Podctl, kind: str) -> None:
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {a: b}, ports: [{port: 80}]}"
    await podctl("apply", "-f", "-", stdin="---".join([POD, CONFIG_MAP, DEPLOYMENT, "\n" + service]))
    output = await podctl("describe", kind)
    assert "Traceback" not in output.err
    assert output.out.startswith("Name:") or output.err == "No resources found\n"


async def test_a_server_that_cannot_be_reached_is_named(podctl: Podctl, tmp_path: Path) -> None:
    config = tmp_path / "client.yaml"
    config.write_text(f'endpoints: ["unix:{tmp_path}/nobody.sock"]\n')
    output = await podctl("--config", str(config), "get", "pods", status=1)
    assert str(tmp_path / "nobody.sock") in output.err and str(config) in output.err
    assert len(output.err.splitlines()) == 1


async def test_a_reader_that_has_seen_enough_is_no_error(podctl: Podctl) -> None:
    shell = await asyncio.create_subprocess_shell(
        " ".join(podctl.argv("api-resources")) + " | head -1",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=podctl.environment,
    )
    out, err = await shell.communicate()
    assert out.startswith(b"NAME") and err == b""
