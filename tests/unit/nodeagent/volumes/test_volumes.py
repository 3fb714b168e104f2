"""Volumes in a folder of the test's own; those that are mounted need root and are tested with containerd."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from nodeagent.model import Mount, PodUid
from nodeagent.volumes.volumes import UnsupportedVolume, VolumeError, Volumes
from podwire import v1

UID = PodUid("u1")


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    return Volumes(tmp_path / "pods")


def pod(*of: v1.Volume) -> v1.Pod:
    return v1.Pod(metadata=v1.ObjectMeta(uid=UID), spec=v1.PodSpec(volumes=of))


def mounting(**fields: object) -> v1.Container:
    return v1.Container(name="web", volume_mounts=[v1.VolumeMount(mount_path="/data", **fields)])  # type: ignore[arg-type]


def host_path(path: Path, kind: str | None = None) -> v1.Volume:
    return v1.Volume(name="host", host_path=v1.HostPathVolumeSource(path=str(path), type=kind))


EMPTY = v1.Volume(name="cache", empty_dir=v1.EmptyDirVolumeSource())


async def test_an_empty_dir_is_everybodys_and_goes_with_its_pod(volumes: Volumes, tmp_path: Path) -> None:
    await volumes.prepare(pod(EMPTY))
    mount = (await volumes.mounts(pod(EMPTY), mounting(name="cache")))[0]
    assert mount == Mount(tmp_path / "pods/u1/volumes/empty-dir/cache", "/data")
    assert stat.S_IMODE(mount.source.stat().st_mode) == 0o777
    await volumes.remove(UID)
    assert not mount.source.exists()
    await volumes.remove(UID)


async def test_preparing_again_keeps_what_is_in_an_empty_dir(volumes: Volumes) -> None:
    await volumes.prepare(pod(EMPTY))
    mount = (await volumes.mounts(pod(EMPTY), mounting(name="cache")))[0]
    (mount.source / "kept").touch()
    await volumes.prepare(pod(EMPTY))
    assert (mount.source / "kept").exists()


async def test_mounts_say_read_only_and_propagation(volumes: Volumes) -> None:
    await volumes.prepare(pod(EMPTY))
    wanted = mounting(name="cache", read_only=True, mount_propagation="HostToContainer")
    mount = (await volumes.mounts(pod(EMPTY), wanted))[0]
    assert mount.read_only
    assert mount.propagation == "rslave"


async def test_a_sub_path_is_made_and_stays_within_the_volume(volumes: Volumes, tmp_path: Path) -> None:
    await volumes.prepare(pod(EMPTY))
    mount = (await volumes.mounts(pod(EMPTY), mounting(name="cache", sub_path="a/b")))[0]
    assert mount.source.is_dir()
    volume = tmp_path / "pods/u1/volumes/empty-dir/cache"
    (volume / "out").symlink_to("/etc")
    with pytest.raises(VolumeError, match='subPath "out" leads out of its volume'):
        await volumes.mounts(pod(EMPTY), mounting(name="cache", sub_path="out"))


@pytest.mark.parametrize(
    ("kind", "there", "made"),
    [
        ("", None, "folder"),
        ("DirectoryOrCreate", None, "folder"),
        ("FileOrCreate", None, "file"),
        ("Directory", "folder", "folder"),
        ("File", "file", "file"),
    ],
)
async def test_a_host_path_that_is_or_can_be_made(
    volumes: Volumes, tmp_path: Path, kind: str, there: str | None, made: str
) -> None:
    path = tmp_path / "host"
    if there == "folder":
        path.mkdir()
    elif there == "file":
        path.touch()
    await volumes.prepare(pod(host_path(path, kind)))
    assert path.is_dir() if made == "folder" else path.is_file()
    assert (await volumes.mounts(pod(host_path(path, kind)), mounting(name="host")))[0].source == path
    await volumes.remove(UID)
    assert path.exists()


@pytest.mark.parametrize(
    ("kind", "noun"),
    [
        ("Directory", "directory"),
        ("File", "file"),
        ("Socket", "socket file"),
        ("CharDevice", "character device"),
        ("BlockDevice", "block device"),
    ],
)
async def test_a_host_path_of_another_type_says_so(volumes: Volumes, tmp_path: Path, kind: str, noun: str) -> None:
    path = tmp_path / "missing"
    with pytest.raises(VolumeError) as raised:
        await volumes.prepare(pod(host_path(path, kind)))
    assert str(raised.value) == (
        f'MountVolume.SetUp failed for volume "host" : hostPath type check failed: {path} is not a {noun}'
    )


async def test_other_kinds_of_volumes_are_refused_by_name(volumes: Volumes) -> None:
    wanted = v1.Volume(name="settings", config_map=v1.ConfigMapVolumeSource(name="settings"))
    with pytest.raises(UnsupportedVolume) as raised:
        await volumes.prepare(pod(wanted))
    assert str(raised.value) == 'volume "settings": volumes of type configMap are not supported yet'
