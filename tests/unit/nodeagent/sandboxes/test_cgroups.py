"""Which control groups are mounted, and what is in them."""

from pathlib import Path

import pytest

from nodeagent.sandboxes.cgroups import Cgroups, Hierarchy, Mode, parse_mounts

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
TMPFS = "30 23 0:26 / /sys/fs/cgroup ro shared:9 - tmpfs tmpfs ro,mode=755"
MEMORY = "33 30 0:29 / /sys/fs/cgroup/memory rw shared:12 - cgroup cgroup rw,memory"
CPU = "34 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:13 - cgroup cgroup rw,cpu,cpuacct"
SYSTEMD = "32 30 0:28 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr,name=systemd"
UNIFIED = "31 30 0:27 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw"


@pytest.mark.parametrize(
    ("lines", "mode", "count"),
    [
        ([V2], Mode.V2, 1),
        ([TMPFS, MEMORY, CPU, SYSTEMD], Mode.V1, 3),
        ([TMPFS, MEMORY, CPU, SYSTEMD, UNIFIED], Mode.HYBRID, 4),
        ([TMPFS, MEMORY, MEMORY.replace("/sys/fs/cgroup", "/elsewhere")], Mode.V1, 1),
    ],
)
def test_the_version_is_told_from_the_mounts(lines: list[str], mode: Mode, count: int) -> None:
    found, hierarchies = parse_mounts("\n".join(lines))
    assert (found, len(hierarchies)) == (mode, count)


def test_a_machine_without_control_groups_is_told_what_to_do() -> None:
    with pytest.raises(LookupError, match="mount one"):
        parse_mounts("23 1 8:1 / / rw - ext4 /dev/vda1 rw")


def groups(tmp_path: Path) -> Cgroups:
    memory, unified = tmp_path / "memory", tmp_path / "unified"
    for root in (memory, unified):
        (root / "podwire/pod1/c").mkdir(parents=True)
    (memory / "podwire/pod1/c/cgroup.procs").write_text("11\n12\n")
    (unified / "podwire/pod1/c/cgroup.procs").write_text("12\n13\n")
    return Cgroups(Mode.HYBRID, (Hierarchy(memory, frozenset({"memory"})), Hierarchy(unified)))


def test_the_processes_of_all_hierarchies_are_found(tmp_path: Path) -> None:
    made = groups(tmp_path)
    assert made.processes("/podwire/pod1") == {11, 12, 13}
    assert made.processes("/podwire/none") == set()


@pytest.mark.parametrize(
    ("text", "killed"), [("under_oom 0\noom_kill 1\n", True), ("oom_kill 0\n", False), ("", False)]
)
def test_a_kill_for_want_of_memory_is_told(tmp_path: Path, text: str, killed: bool) -> None:
    made = groups(tmp_path)
    (tmp_path / "memory/podwire/pod1/c/memory.oom_control").write_text(text)
    assert made.out_of_memory("/podwire/pod1/c") is killed


def test_children_are_those_of_any_hierarchy(tmp_path: Path) -> None:
    made = groups(tmp_path)
    (tmp_path / "unified/podwire/pod2").mkdir()
    assert made.children("/podwire") == {"pod1", "pod2"}
    assert made.children("/none") == set()
