import io
import tarfile

import pytest

from lab import images
from lab.oci import Image


@pytest.fixture(scope="module")
def built() -> dict[str, Image]:
    return {name: image for image in images.build_all() for name, _ in image.names}


def files(image: Image) -> set[str]:
    found: set[str] = set()
    for layer in image.layers:
        with tarfile.open(fileobj=io.BytesIO(layer.content)) as tar:
            found.update(tar.getnames())
    return found


def test_images_made_twice_are_the_same_bytes(built: dict[str, Image]) -> None:
    assert {name: image for image in images.build_all() for name, _ in image.names} == built


def test_every_image_has_the_latest_tag(built: dict[str, Image]) -> None:
    assert set(built) == {f"library/{name}" for name in ("alpine", "busybox", "httpd", "nginx")}
    for image in built.values():
        assert "latest" in {tag for _, tag in image.names}


def test_every_image_has_a_shell_and_the_usual_programs(built: dict[str, Image]) -> None:
    for image in built.values():
        assert files(image) >= {"bin/sh", "bin/cat", "bin/sleep", "bin/ls", "etc/passwd", "tmp"}


def test_servers_have_bash_and_their_page_where_the_originals_have_it(built: dict[str, Image]) -> None:
    assert files(built["library/nginx"]) >= {"bin/bash", "usr/sbin/nginx", "usr/share/nginx/html/index.html"}
    assert files(built["library/httpd"]) >= {"bin/bash", "usr/local/apache2/htdocs/index.html"}
