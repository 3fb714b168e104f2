"""What other languages need of the protos."""

import importlib
import pkgutil

from podwire import v1


def test_every_proto_names_its_go_package() -> None:
    modules = [name for _, name, _ in pkgutil.iter_modules(v1.__path__) if name.endswith("_pb2")]
    assert modules
    for name in modules:
        options = importlib.import_module(f"podwire.v1.{name}").DESCRIPTOR.GetOptions()
        assert options.go_package == "podwire.io/api/podwire/v1;podwirev1", name
