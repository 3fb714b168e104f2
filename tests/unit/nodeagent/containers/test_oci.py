"""The OCI specification of a container."""

from pathlib import Path
from typing import Any

from nodeagent.containers.oci import Confinement, Surroundings, container_spec, pause_spec
from nodeagent.containers.process import Process
from nodeagent.containers.users import Identity
from nodeagent.model import Mount

PROCESS = Process(("/app",), ("A=1",), "/srv", Identity(1, 2, (2, 3)), ("CAP_KILL",), True, False)
PLAIN = Confinement(seccomp=None, privileged=False, read_only_root=False, unmasked_proc=False)
PINS = {"network": Path("/run/s/net"), "uts": Path("/run/s/uts"), "ipc": Path("/run/s/ipc"), "pid": None}
FILES = {"/etc/hosts": Path("/run/s/hosts")}
SURROUNDINGS = Surroundings(PINS, "sandbox", "/podwire/pod1/c", FILES, Path("/run/s/shm"))


def spec(*mounts: Mount, confinement: Confinement = PLAIN, **options: bool) -> dict[str, Any]:
    settings = {"private_cgroups": False, "best_effort": False} | options
    return container_spec(PROCESS, SURROUNDINGS, confinement, mounts, **settings)


def mount_at(made: dict[str, Any], destination: str) -> dict[str, Any]:
    (found,) = [mount for mount in made["mounts"] if mount["destination"] == destination]
    return found  # type: ignore[no-any-return]


def test_the_process_is_what_it_was_made_to_be() -> None:
    made = spec()["process"]
    assert (made["args"], made["cwd"], made["env"]) == (["/app"], "/srv", ["A=1"])
    assert made["user"] == {"uid": 1, "gid": 2, "additionalGids": [2, 3]}
    assert made["noNewPrivileges"] and not made["terminal"]


def test_the_pods_namespaces_are_joined_by_their_pins() -> None:
    assert spec()["linux"]["namespaces"] == [
        {"type": "network", "path": "/run/s/net"},
        {"type": "uts", "path": "/run/s/uts"},
        {"type": "ipc", "path": "/run/s/ipc"},
        {"type": "pid"},
        {"type": "mount"},
    ]


def test_groups_are_private_where_only_version_two_is_there() -> None:
    assert {"type": "cgroup"} in spec(private_cgroups=True)["linux"]["namespaces"]


def test_the_container_runs_in_the_sandboxes_shim_and_the_pods_group() -> None:
    made = spec()
    assert made["annotations"] == {"io.containerd.runc.v2.group": "sandbox"}
    assert made["linux"]["cgroupsPath"] == "/podwire/pod1/c"


def test_what_a_container_need_not_see_is_masked_and_the_rest_read_only() -> None:
    linux = spec()["linux"]
    assert "/proc/kcore" in linux["maskedPaths"] and "/proc/sys" in linux["readonlyPaths"]
    assert "ro" in mount_at(spec(), "/sys")["options"]
    assert linux["resources"]["devices"] == [{"allow": False, "access": "rwm"}]


def test_a_privileged_container_is_masked_nothing() -> None:
    device = {"path": "/dev/x", "type": "c", "major": 1, "minor": 2}
    made = spec(confinement=Confinement(None, True, False, False, (device,)))
    assert "maskedPaths" not in made["linux"] and "readonlyPaths" not in made["linux"]
    assert "rw" in mount_at(made, "/sys")["options"]
    assert made["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert made["linux"]["devices"] == [device]


def test_the_pods_memory_is_shared_and_its_files_are_bound() -> None:
    made = spec()
    assert mount_at(made, "/dev/shm")["source"] == "/run/s/shm"
    assert mount_at(made, "/etc/hosts")["source"] == "/run/s/hosts"


def test_a_volume_takes_the_place_of_a_default_mount() -> None:
    made = spec(Mount(Path("/data/shm"), "/dev/shm"), Mount(Path("/data/hosts"), "/etc/hosts", read_only=True))
    assert mount_at(made, "/dev/shm")["source"] == "/data/shm"
    assert mount_at(made, "/etc/hosts")["source"] == "/data/hosts"
    assert "ro" in mount_at(made, "/etc/hosts")["options"]


def test_outer_folders_are_mounted_before_inner_ones() -> None:
    made = spec(Mount(Path("/in"), "/a/b/c"), Mount(Path("/out"), "/a"))
    order = [mount["destination"] for mount in made["mounts"]]
    assert order.index("/a") < order.index("/a/b/c")


def test_a_root_that_is_read_only_has_read_only_files() -> None:
    made = spec(confinement=Confinement(None, False, True, False))
    assert made["root"]["readonly"] and "ro" in mount_at(made, "/etc/hosts")["options"]


def test_mounts_that_propagate_need_a_root_that_does() -> None:
    assert "rootfsPropagation" not in spec(Mount(Path("/x"), "/x"))["linux"]
    assert spec(Mount(Path("/x"), "/x", propagation="rslave"))["linux"]["rootfsPropagation"] == "rslave"
    assert spec(Mount(Path("/x"), "/x", propagation="rshared"))["linux"]["rootfsPropagation"] == "rshared"


def test_only_a_pod_that_requests_nothing_is_first_to_be_killed_for_memory() -> None:
    assert spec(best_effort=True)["process"]["oomScoreAdj"] == 1000
    assert "oomScoreAdj" not in spec()["process"]


def test_pause_has_no_capability_and_a_root_that_nobody_writes_to() -> None:
    made = pause_spec(Path("/pause"), ["/catatonit", "-P"], SURROUNDINGS, {"net.core.somaxconn": "9"},
                      private_cgroups=False)  # fmt: skip
    assert made["process"]["capabilities"] == {} and made["process"]["noNewPrivileges"]
    assert made["root"] == {"path": "/pause", "readonly": True}
    # Without a mount there, runc writes devices into the root that all pods share.
    assert mount_at(made, "/dev")["type"] == "tmpfs"
    assert made["linux"]["sysctl"] == {"net.core.somaxconn": "9"}
