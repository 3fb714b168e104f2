"""The runner: any list, remembered attachments, cancelled and repeated calls, garbage collection."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cni.conflist import ConfList, default_conflist, parse
from cni.errors import CniError
from cni.runner import Network, PortMapping
from tests.integration.cni.hosts import Host, eventually_async, needs_root

pytestmark = [pytest.mark.root, needs_root]

Hosts = Callable[[], Host]

# A plugin that writes down how it was called, and fails where a file says so.
RECORDER = """#!{python}
import json, os, pathlib, sys
here = pathlib.Path(__file__).parent
name, verb = pathlib.Path(__file__).name, os.environ["CNI_COMMAND"]
configuration = json.load(sys.stdin)
with (here / "calls").open("a") as calls:
    calls.write(json.dumps([name, verb, os.environ.get("CNI_CONTAINERID"), os.environ.get("CNI_NETNS"),
                            os.environ.get("CNI_ARGS"), configuration]) + "\\n")
if (here / f"{{name}}-fails-at-{{verb}}").exists():
    print(json.dumps({{"cniVersion": "1.1.0", "code": 11, "msg": "not now", "details": "later"}}))
    sys.exit(1)
if verb == "ADD":
    result = configuration.get("prevResult") or {{"cniVersion": "1.1.0", "ips": []}}
    result["ips"] = result.get("ips", []) + [{{"address": f"192.0.2.{{len(result['ips']) + 1}}/24"}}]
    print(json.dumps(result))
"""


class Recorded:
    """Two plugins of which every call is known."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("first", "second"):
            (folder / name).write_text(RECORDER.format(python=sys.executable))
            (folder / name).chmod(0o755)

    def calls(self) -> list[list[object]]:
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def verbs(self) -> list[tuple[object, object]]:
        return [(name, verb) for name, verb, *_ in self.calls()]

    def fail(self, name: str, verb: str) -> Path:
        path = self.folder / f"{name}-fails-at-{verb}"
        path.touch()
        return path


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path / "bin")


@pytest.fixture
def foreign() -> ConfList:
    plugins = [{"type": "first", "capabilities": {"portMappings": True}, "own": 1}, {"type": "second"}]
    return parse({"cniVersion": "1.1.0", "name": "net", "plugins": plugins}, "the test's list")


OURS = default_conflist("10.244.1.0/24", pod_network="10.244.0.0/16")


async def test_plugins_run_in_order_with_results_and_are_undone_in_reverse(
    recorded: Recorded, foreign: ConfList, hosts: Hosts, state_dir: Path
) -> None:
    pod = hosts()
    network = Network(foreign, state_dir=state_dir, bin_dirs=[recorded.folder])
    result = await network.add(
        "c1", pod.path, args={"K8S_POD_NAME": "web"}, port_mappings=[PortMapping(80, 8080, "TCP")]
    )
    assert result.addresses == ("192.0.2.1", "192.0.2.2")
    first, second = recorded.calls()
    assert first[:5] == ["first", "ADD", "c1", str(pod.path), "K8S_POD_NAME=web"]
    assert first[5] == {
        "type": "first",
        "own": 1,
        "name": "net",
        "cniVersion": "1.1.0",
        "runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 8080, "protocol": "tcp"}]},
    }
    assert isinstance(second[5], dict)
    assert "runtimeConfig" not in second[5]
    assert second[5]["prevResult"]["ips"] == [{"address": "192.0.2.1/24"}]
    await network.delete("c1", pod.path)
    undone = recorded.calls()[2:]
    assert [call[:2] for call in undone] == [["second", "DEL"], ["first", "DEL"]]
    assert all(isinstance(call[5], dict) and len(call[5]["prevResult"]["ips"]) == 2 for call in undone)
    assert not list((state_dir / "attachments").iterdir())


async def test_a_failure_undoes_what_was_done_and_says_which_plugin_and_why(
    recorded: Recorded, foreign: ConfList, hosts: Hosts, state_dir: Path
) -> None:
    recorded.fail("second", "ADD")
    network = Network(foreign, state_dir=state_dir, bin_dirs=[recorded.folder])
    with pytest.raises(CniError, match="the CNI plugin second failed: not now: later") as caught:
        await network.add("c1", hosts().path)
    assert caught.value.code == 11
    assert recorded.verbs()[2:] == [("second", "DEL"), ("first", "DEL")]


async def test_an_undo_that_fails_is_remembered_and_done_by_gc_with_the_list_that_made_it(
    recorded: Recorded, foreign: ConfList, hosts: Hosts, state_dir: Path
) -> None:
    pod = hosts()
    await Network(foreign, state_dir=state_dir, bin_dirs=[recorded.folder]).add("c1", pod.path)
    failing = recorded.fail("first", "DEL")
    # The node's list is another one by now.
    other = parse({"cniVersion": "1.0.0", "name": "other", "plugins": [{"type": "second"}]}, "another list")
    network = Network(other, state_dir=state_dir, bin_dirs=[recorded.folder])
    with pytest.raises(CniError):
        await network.delete("c1", pod.path)
    failing.unlink()
    await network.gc(keep=[])
    assert recorded.verbs()[-2:] == [("second", "DEL"), ("first", "DEL")]
    assert not list((state_dir / "attachments").iterdir())


async def test_gc_deletes_unknown_attachments_and_tells_the_plugins_of_the_known(
    recorded: Recorded, foreign: ConfList, hosts: Hosts, state_dir: Path
) -> None:
    network = Network(foreign, state_dir=state_dir, bin_dirs=[recorded.folder])
    for name in ("c1", "c2"):
        await network.add(name, hosts().path)
    await network.gc(keep=["c2"])
    assert [call[1:3] for call in recorded.calls()[4:6]] == [["DEL", "c1"], ["DEL", "c1"]]
    collected = recorded.calls()[6:]
    assert [call[:2] for call in collected] == [["first", "GC"], ["second", "GC"]]
    valid = [{"containerID": "c2", "ifname": "eth0"}]
    assert all(isinstance(call[5], dict) and call[5]["cni.dev/valid-attachments"] == valid for call in collected)


async def test_a_plugin_that_is_not_installed_is_named_with_the_folders_searched(
    foreign: ConfList, hosts: Hosts, state_dir: Path, tmp_path: Path
) -> None:
    network = Network(foreign, state_dir=state_dir, bin_dirs=[tmp_path])
    with pytest.raises(CniError, match=f"there is no CNI plugin first: looked in {tmp_path}"):
        await network.add("c1", hosts().path)


def test_our_plugin_runs_in_process_and_a_repeated_add_changes_nothing(
    node: Host, hosts: Hosts, state_dir: Path
) -> None:
    pod = hosts()

    async def scenario() -> None:
        network = Network(OURS, state_dir=state_dir)
        await network.status()
        first = await network.add("c1", pod.path)
        assert first.addresses == ("10.244.1.2",)
        before = pod.command("ip", "-o", "link")
        again = await Network(OURS, state_dir=state_dir).add("c1", pod.path)
        assert again == first
        assert pod.command("ip", "-o", "link") == before
        await network.check("c1", pod.path)

    node.run_async(scenario)


def test_an_add_after_the_namespace_was_replaced_connects_the_new_one(
    node: Host, hosts: Hosts, state_dir: Path
) -> None:
    old, new = hosts(), hosts()

    async def scenario() -> None:
        network = Network(OURS, state_dir=state_dir)
        await network.add("c1", old.path)
        await network.add("c1", new.path)
        await network.check("c1", new.path)
        assert old.links() == {"lo"}

    node.run_async(scenario)


def test_a_connection_that_was_damaged_is_made_anew_by_add(node: Host, hosts: Hosts, state_dir: Path) -> None:
    pod = hosts()

    async def scenario() -> None:
        network = Network(OURS, state_dir=state_dir)
        await network.add("c1", pod.path)
        pod.command("ip", "link", "del", "eth0")
        with pytest.raises(CniError):
            await network.check("c1", pod.path)
        await network.add("c1", pod.path)
        await network.check("c1", pod.path)

    node.run_async(scenario)


def test_a_cancelled_add_ends_before_its_delete_begins(node: Host, hosts: Hosts, state_dir: Path) -> None:
    pods = [hosts() for _ in range(8)]

    async def scenario() -> None:
        network = Network(OURS, state_dir=state_dir)
        for number, pod in enumerate(pods):
            adding = asyncio.create_task(network.add(f"c{number}", pod.path))
            for _ in range(number):
                await asyncio.sleep(0)
            adding.cancel()
            await network.delete(f"c{number}", pod.path)
            await asyncio.wait([adding])

    node.run_async(scenario)
    assert node.links() <= {"lo", "podwire0"}
    assert all(pod.links() == {"lo"} for pod in pods)


def test_gc_spares_what_is_being_added(node: Host, hosts: Hosts, state_dir: Path) -> None:
    pods = [hosts() for _ in range(10)]

    async def scenario() -> None:
        network = Network(OURS, state_dir=state_dir)
        async with asyncio.TaskGroup() as owner:
            adding = [owner.create_task(network.add(f"c{number}", pod.path)) for number, pod in enumerate(pods)]
            while not all(task.done() for task in adding):
                await network.gc(keep=[f"c{number}" for number, task in enumerate(adding) if task.done()])
                await asyncio.sleep(0)
        for number, pod in enumerate(pods):
            await network.check(f"c{number}", pod.path)
        await network.gc(keep=[])

    node.run_async(scenario)
    assert node.links() == {"lo", "podwire0"}


async def test_gc_goes_on_after_a_failure_and_raises_it_at_the_end(
    recorded: Recorded, foreign: ConfList, hosts: Hosts, state_dir: Path
) -> None:
    network = Network(foreign, state_dir=state_dir, bin_dirs=[recorded.folder])
    for name in ("c1", "c2"):
        await network.add(name, hosts().path)
    failing = recorded.fail("first", "DEL")
    with pytest.raises(CniError):
        await network.gc(keep=[])
    assert {call[2] for call in recorded.calls() if call[1] == "DEL"} == {"c1", "c2"}
    assert recorded.verbs()[-2:] == [("first", "GC"), ("second", "GC")]
    failing.unlink()
    await network.gc(keep=[])
    assert not list((state_dir / "attachments").iterdir())


def test_a_container_to_keep_is_kept_although_its_record_is_lost(node: Host, hosts: Hosts, state_dir: Path) -> None:
    pod = hosts()

    async def scenario() -> None:
        network = Network(OURS, state_dir=state_dir)
        await network.add("c1", pod.path)
        for record in (state_dir / "attachments").iterdir():
            record.unlink()
        await network.gc(keep=["c1"])
        assert "eth0" in pod.links()
        await network.gc(keep=[])
        assert pod.links() == {"lo"}

    node.run_async(scenario)


# A plugin whose ADD waits until it may go on, and that writes down what it has done.
SLOW = """#!/bin/sh
cd "$(dirname "$0")"
cat > /dev/null
[ $CNI_COMMAND = ADD ] && touch began && read _ < go
echo $CNI_COMMAND >> done
[ $CNI_COMMAND != ADD ] || echo '{"cniVersion": "1.0.0"}'
"""

KILLED_RUNNER = """
import asyncio, sys
from pathlib import Path
from cni import conflist
from cni.runner import Network
state, folder, netns = map(Path, sys.argv[1:])
slow = conflist.parse({"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "slow"}]}, "the test's list")
asyncio.run(Network(slow, state_dir=state, bin_dirs=[folder]).add("c1", netns))
"""


async def test_what_a_killed_runner_had_started_ends_before_it_is_undone(
    hosts: Hosts, state_dir: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "slow").write_text(SLOW)
    (folder / "slow").chmod(0o755)
    os.mkfifo(folder / "go")
    arguments = (str(state_dir), str(folder), str(hosts().path))
    runner = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED_RUNNER, *arguments)
    await eventually_async((folder / "began").exists)
    runner.kill()
    await runner.wait()

    slow = parse({"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "slow"}]}, "the test's list")
    collecting = asyncio.create_task(Network(slow, state_dir=state_dir, bin_dirs=[folder]).gc(keep=[]))
    done, _ = await asyncio.wait([collecting], timeout=0.2)
    assert not done
    (folder / "go").write_text("\n")
    await collecting
    assert (folder / "done").read_text().split() == ["ADD", "DEL"]
    assert not list((state_dir / "attachments").iterdir())
