"""What names may look like: RFC 1123 and 1035 labels, label keys and values, ports, variables, paths and addresses.

Each function yields what is wrong with one value, in the words of k8s.io/apimachinery/pkg/util/validation.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from podwire import v1
from podwire.label_syntax import LABEL, LONGEST_SUBDOMAIN, SUBDOMAIN, is_key_prefix, is_name, is_value
from podwire.validation.problems import Problems, between, invalid, required

# Compiled here: `re` would look each one up at every call, which takes as long as the match.
_LABEL: Final = re.compile(LABEL)
_SUBDOMAIN: Final = re.compile(SUBDOMAIN)
_LABEL_1035: Final = re.compile("[a-z]([-a-z0-9]*[a-z0-9])?")
_DATA_KEY: Final = re.compile("[-._a-zA-Z0-9]+")
_VARIABLE: Final = re.compile("[ -<>-~]+")
_HEADER: Final = re.compile("[-A-Za-z0-9]+")


def _matches(path: str, value: str, pattern: re.Pattern[str], longest: int, what: str, example: str) -> Problems:
    if not value:
        yield required(path)
    elif len(value) > longest:
        yield invalid(path, value, f"must be no more than {longest} characters")
    elif not pattern.fullmatch(value):
        yield invalid(path, value, f"{what} (e.g. {example}, regex used for validation is '{pattern.pattern}')")


def dns_label(path: str, value: str) -> Problems:
    """RFC 1123: at most 63 of a-z, 0-9 and -."""
    what = (
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
        "and must start and end with an alphanumeric character"
    )
    yield from _matches(path, value, _LABEL, 63, what, "'my-name', or '123-abc'")


def dns_label_1035(path: str, value: str) -> Problems:
    """RFC 1035: like RFC 1123's, but it begins with a letter."""
    what = (
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', "
        "start with an alphabetic character, and end with an alphanumeric character"
    )
    yield from _matches(path, value, _LABEL_1035, 63, what, "'my-name', or 'abc-123'")


def dns_subdomain(path: str, value: str) -> Problems:
    """RFC 1123: labels joined by dots, at most 253 characters."""
    what = (
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
        "and must start and end with an alphanumeric character"
    )
    yield from _matches(path, value, _SUBDOMAIN, LONGEST_SUBDOMAIN, what, "'example.com'")


def qualified_name(path: str, value: str) -> Problems:
    """A label's key: a name of at most 63 characters, with or without a subdomain and a slash before it."""
    prefix, slash, name = value.rpartition("/")
    if slash and not is_key_prefix(prefix):
        yield invalid(path, value, "prefix part must be a lowercase RFC 1123 subdomain (e.g. 'example.com')")
    if not is_name(name):
        yield invalid(
            path,
            value,
            "name part must consist of at most 63 alphanumeric characters, '-', '_' or '.', "
            "and must start and end with an alphanumeric character (e.g. 'MyName', or 'my.name', or '123-abc')",
        )


def label_value(path: str, value: str) -> Problems:
    if len(value) > 63:
        yield invalid(path, value, "must be no more than 63 characters")
    elif not is_value(value):
        yield invalid(
            path,
            value,
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
            "and must start and end with an alphanumeric character (e.g. 'MyValue', or 'my_value', or '12345')",
        )


def data_key(path: str, value: str) -> Problems:
    """A key of a config map or secret: it becomes the name of a file."""
    what = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
    yield from _matches(path, value, _DATA_KEY, 253, what, "'key.name', or 'KEY_NAME', or 'key-name'")
    if value == "." or value.startswith(".."):
        yield invalid(path, value, "must not be '.' or start with '..'")


def variable_name(path: str, value: str) -> Problems:
    what = "a valid environment variable name must consist only of printable ASCII characters other than '='"
    yield from _matches(path, value, _VARIABLE, 1024, what, "'MY_NAME'")


def header_name(path: str, value: str) -> Problems:
    what = "a valid HTTP header must consist of alphanumeric characters or '-'"
    yield from _matches(path, value, _HEADER, 256, what, "'X-Header-Name'")


def port_number(path: str, value: int) -> Problems:
    yield from between(path, value, 1, 65535)


def port_name(path: str, value: str) -> Problems:
    """RFC 6335: an IANA service name."""
    if len(value) > 15:
        yield invalid(path, value, "must be no more than 15 characters")
    elif not re.fullmatch("[a-z0-9]([a-z0-9-]*[a-z0-9])?", value) or not re.search("[a-z]", value) or "--" in value:
        yield invalid(
            path,
            value,
            "must contain only lower case alphanumeric characters (a-z, 0-9) and hyphens (-), at least one letter, "
            "no two hyphens in a row, and must begin and end with an alphanumeric character",
        )


def port(path: str, value: v1.IntOrString) -> Problems:
    """A number, or the name of a port."""
    match value.WhichOneof("value"):
        case None:
            yield required(path, "a port's number or name")
        case "int":
            yield from port_number(path, value.int)
        case _:
            yield from port_name(path, value.string)


def ip_address(path: str, value: str) -> Problems:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        yield invalid(path, value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")


def cidr(path: str, value: str) -> Problems:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        yield invalid(path, value, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")


def relative_path(path: str, value: str) -> Problems:
    """A path below some folder, that cannot leave it."""
    if value.startswith("/"):
        yield invalid(path, value, "must be a relative path")
    yield from no_way_up(path, value)


def no_way_up(path: str, value: str) -> Problems:
    if ".." in value.split("/"):
        yield invalid(path, value, "must not contain '..'")
