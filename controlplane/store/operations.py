"""What transactions are made of: compares and operations of etcd, as functions with names."""

from __future__ import annotations

from controlplane.store.api import etcd_pb2 as pb


def unchanged(key: bytes, mod_revision: int) -> pb.Compare:
    """The key's last change has this revision; 0: the key is absent."""
    return pb.Compare(result=pb.Compare.EQUAL, target=pb.Compare.MOD, key=key, mod_revision=mod_revision)


def absent(key: bytes) -> pb.Compare:
    return pb.Compare(result=pb.Compare.EQUAL, target=pb.Compare.CREATE, key=key, create_revision=0)


def created_at(key: bytes, create_revision: int) -> pb.Compare:
    """The key exists, and the change that made it has this revision."""
    return pb.Compare(result=pb.Compare.EQUAL, target=pb.Compare.CREATE, key=key, create_revision=create_revision)


def all_absent(prefix: bytes) -> pb.Compare:
    """No key begins with `prefix`. etcd finds a compare over an empty range true."""
    return pb.Compare(
        result=pb.Compare.EQUAL,
        target=pb.Compare.CREATE,
        key=prefix,
        range_end=prefix_end(prefix),
        create_revision=0,
    )


def put(key: bytes, value: bytes, lease: int = 0) -> pb.RequestOp:
    return pb.RequestOp(request_put=pb.PutRequest(key=key, value=value, lease=lease))


def delete(key: bytes) -> pb.RequestOp:
    return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key))


def read(key: bytes) -> pb.RequestOp:
    return pb.RequestOp(request_range=pb.RangeRequest(key=key))


def prefix_end(prefix: bytes) -> bytes:
    """The end of the range of all keys that begin with `prefix`."""
    stem = prefix.rstrip(b"\xff")
    if not stem:
        return b"\x00"
    return stem[:-1] + bytes([stem[-1] + 1])
