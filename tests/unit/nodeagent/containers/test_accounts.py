"""An image's accounts, read from its layers without mounting them."""

from pathlib import Path

from nodeagent.containerd.api import types_pb2
from nodeagent.containers.accounts import layers, read_accounts


def layer(root: Path, name: str, **files: str) -> Path:
    folder = root / name
    (folder / "etc").mkdir(parents=True)
    for file, text in files.items():
        (folder / "etc" / file).write_text(text)
    return folder


def test_the_layers_of_an_overlay_come_from_the_top() -> None:
    options = ["index=off", "lowerdir=/top:/middle:/bottom"]
    assert layers([types_pb2.Mount(type="overlay", options=options)]) == [
        Path("/top"),
        Path("/middle"),
        Path("/bottom"),
    ]
    assert layers([types_pb2.Mount(type="bind", source="/only", options=["ro", "rbind"])]) == [Path("/only")]


def test_the_topmost_file_counts(tmp_path: Path) -> None:
    top = layer(tmp_path, "top", passwd="web:x:1:1::/:/bin/sh\n")
    bottom = layer(tmp_path, "bottom", passwd="old:x:2:2::/:/bin/sh\n", group="old:x:2:\n")
    accounts = read_accounts([top, tmp_path / "without-etc", bottom])
    assert [user.name for user in accounts.users] == ["web"]
    assert [group.name for group in accounts.groups] == ["old"]


def test_a_link_is_not_followed_into_the_node(tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    (evil / "etc").mkdir(parents=True)
    (evil / "etc/passwd").symlink_to("/etc/passwd")
    assert read_accounts([evil]).users == ()
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "etc").symlink_to("/etc")
    assert read_accounts([linked]).users == ()


def test_an_image_without_accounts_has_none(tmp_path: Path) -> None:
    assert read_accounts([tmp_path]).users == ()
