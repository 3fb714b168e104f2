"""`podwire-lab` as it is typed."""

import subprocess
import sys

import pytest

from lab.lab import CHECKOUT, Lab

pytestmark = pytest.mark.root


def podwire_lab(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lab", *arguments],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_exec_hands_flags_output_and_exit_code_through(lab: Lab) -> None:
    done = podwire_lab("exec", f"{lab.plan.name}/client", "--", "sh", "-c", "echo $0 $1; exit 3", "-x", "--name")
    assert (done.returncode, done.stdout) == (3, "-x --name\n")


async def test_exec_runs_in_the_network_of_the_host(lab: Lab) -> None:
    done = podwire_lab("exec", f"{lab.plan.name}/node1", "ip", "-brief", "-4", "address", "show", "eth0")
    assert str(lab.plan.host("node1").address) in done.stdout


async def test_list_and_status_show_what_runs(lab: Lab) -> None:
    assert [lab.plan.name, "1", "up", str(CHECKOUT)] in rows(podwire_lab("list").stdout)
    await lab.kill(lab.plan.host("node1"), "logs")
    try:
        states = {(row[0], row[2]): row[-2:] for row in rows(podwire_lab("status", lab.plan.name).stdout)}
        assert states["node1", "logs"][-1] == "stopped"
        assert states["node1", "agent"][0] == "running"
        assert [lab.plan.name, "1", "partly", str(CHECKOUT)] in rows(podwire_lab("list").stdout)
    finally:
        await lab.start(lab.plan.host("node1"), "logs")


async def test_logs_shows_what_a_program_wrote(lab: Lab) -> None:
    assert "podwire-lab" not in podwire_lab("logs", f"{lab.plan.name}/node1", "containerd").stderr
    assert "containerd" in podwire_lab("logs", f"{lab.plan.name}/node1", "containerd").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status", "nosuch"], "there is no lab 'nosuch'; `podwire-lab list` shows those there are"),
        (["exec", "{lab}/nosuch", "true"], "has no host 'nosuch'; its hosts are registry, client"),
        (["kill", "{lab}/node1", "etcd"], "runs no 'etcd'; its programs: containerd, logs, agent"),
        (["up", "--name", "No"], "'No' cannot name a lab"),
        (["up", "--name", "new", "--nodes", "0"], "a lab has 1 to 150 nodes, not 0"),
        (["up", "--name", "{lab}", "--nodes", "0"], "has 1 nodes; to have fewer, `podwire-lab down {lab}` first"),
        (["up", "--name", "{lab}", "--etcd", "3"], "has 1 members of etcd; to have 3, `podwire-lab down {lab}` first"),
        (["up", "--name", "new", "--etcd", "2"], "a lab's etcd has one of 1, 3, 5, 7 members, not 2"),
        (["cut", "{lab}/node1", "--from", "nosuch"], "has no host 'nosuch'; its hosts are registry, client"),
        (["load", "{lab}", "README.md"], "README.md cannot be loaded: it is no tar file"),
    ],
)
async def test_a_mistake_is_answered_in_one_line(lab: Lab, arguments: list[str], message: str) -> None:
    done = podwire_lab(*(argument.format(lab=lab.plan.name) for argument in arguments))
    assert done.returncode == 1
    assert message.format(lab=lab.plan.name) in done.stderr
    assert len(done.stderr.splitlines()) == 1


def rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines()[1:]]
