"""podctl patch, label, annotate, and how deletions cascade, through a real API on a real etcd."""

from __future__ import annotations

from pathlib import Path

from podwire.client import Client
from tests.integration.podctl.command import Podctl
from tests.integration.podctl.test_objects import CONFIG_MAP, DEPLOYMENT


async def test_patch_says_what_it_did_and_changes_nothing_in_a_dry_run(podctl: Podctl, tmp_path: Path) -> None:
    await podctl("apply", "-f", "-", stdin=DEPLOYMENT)
    change = '{"metadata": {"labels": {"tier": "front"}}}'
    dry = await podctl("patch", "deploy", "web", "-p", change, "--dry-run=server")
    assert dry.out == "deployment.apps/web patched (server dry run)\n"
    assert (await podctl("patch", "deploy/web", "-p", change, "--dry-run=client")).out == (
        "deployment.apps/web patched (dry run)\n"
    )
    assert (await podctl("patch", "deploy", "web", "-p", change)).out == "deployment.apps/web patched\n"
    file = tmp_path / "patch.yaml"
    file.write_text("- {op: test, path: /metadata/labels/tier, value: front}\n")
    again = await podctl("patch", "deploy", "web", "--type=json", "--patch-file", str(file))
    assert again.out == "deployment.apps/web patched (no change)\n"
    failed = await podctl(
        "patch", "deploy", "web", "--type=json", "-p", '[{"op":"remove","path":"/spec/nothing"}]', status=1
    )
    assert "patch[0] (remove /spec/nothing)" in failed.err
    assert "not found" in (await podctl("patch", "deploy", "none", "-p", "{}", status=1)).err
    assert "--type=merge" in (await podctl("patch", "deploy", "web", "--type=strategic", "-p", "{}", status=2)).err


async def test_label_and_annotate_set_keep_and_remove(podctl: Podctl) -> None:
    await podctl("apply", "-f", "-", stdin=CONFIG_MAP)
    assert (await podctl("label", "cm", "settings", "a=1", "b=2")).out == "configmap/settings labeled\n"
    assert (await podctl("label", "cm/settings", "a=1")).out == "configmap/settings not labeled\n"
    refused = await podctl("label", "cm", "settings", "a=2", status=1)
    assert refused.err == "error: 'a' already has a value (1), and --overwrite is false\n"
    dry = await podctl("label", "cm", "-l", "b=2", "a=2", "--overwrite", "--dry-run=server")
    assert dry.out == "configmap/settings labeled (server dry run)\n"
    assert (await podctl("label", "cm", "--all", "a=2", "b-", "--overwrite")).out == "configmap/settings labeled\n"
    missing = await podctl("label", "cm", "settings", "b-")
    assert (missing.out, missing.err) == ("configmap/settings not labeled\n", 'label "b" not found.\n')
    assert (await podctl("annotate", "cm", "settings", "note=a b")).out == "configmap/settings annotated\n"
    shown = await podctl("get", "cm", "settings", "-o", "jsonpath={.metadata.labels.a} {.metadata.annotations.note}")
    assert shown.out == "2 a b"


async def test_delete_can_be_tried_and_told_what_becomes_of_what_is_owned(podctl: Podctl, client: Client) -> None:
    await podctl("apply", "-f", "-", stdin=DEPLOYMENT)
    for mode, suffix in (("client", "(dry run)"), ("server", "(server dry run)")):
        tried = await podctl("delete", "deploy", "web", f"--dry-run={mode}")
        assert tried.out == f'deployment.apps "web" deleted {suffix}\n'
    scaled = await podctl("scale", "deploy/web", "--replicas=5", "--dry-run=server")
    assert scaled.out == "deployment.apps/web scaled (server dry run)\n"
    assert (await client.deployments.get("web", namespace=podctl.namespace)).spec.replicas == 2
    await podctl("wait", "deploy/web", "--for=jsonpath={.status.replicas}=2")
    await podctl("delete", "deploy", "web", "--cascade=orphan")
    (left,) = (await client.replica_sets.list(namespace=podctl.namespace)).items
    assert not left.metadata.owner_references
    await podctl("delete", "rs", left.metadata.name, "--cascade=foreground")
    assert not (await client.pods.list(namespace=podctl.namespace)).items
