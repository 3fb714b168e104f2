"""Docker's form of a seccomp profile, for one container on one architecture."""

from typing import Any

from nodeagent.containers.seccomp import to_oci

PROFILE: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "archMap": [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
    ],
    "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {}, "excludes": {}},
        {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}},
        {"names": ["modify_ldt"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["x86"]}},
        {"names": ["breakpoint"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm", "arm64"]}},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_SYS_ADMIN"]}, "errnoRet": 1},
        {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 8}]},
    ],
}


def names(converted: dict[str, Any], action: str) -> set[str]:
    return {name for rule in converted["syscalls"] if rule["action"] == action for name in rule["names"]}


def test_rules_of_other_architectures_are_left_out() -> None:
    on_intel = names(to_oci(PROFILE, architecture="amd64", capabilities=()), "SCMP_ACT_ALLOW")
    on_arm = names(to_oci(PROFILE, architecture="arm64", capabilities=()), "SCMP_ACT_ALLOW")
    assert on_intel == {"read", "arch_prctl", "modify_ldt", "personality"}
    assert on_arm == {"read", "breakpoint", "personality"}


def test_rules_follow_the_capabilities() -> None:
    with_it = to_oci(PROFILE, architecture="amd64", capabilities=("CAP_SYS_ADMIN",))
    without = to_oci(PROFILE, architecture="amd64", capabilities=())
    assert "mount" in names(with_it, "SCMP_ACT_ALLOW") and not names(with_it, "SCMP_ACT_ERRNO")
    assert "mount" not in names(without, "SCMP_ACT_ALLOW") and names(without, "SCMP_ACT_ERRNO") == {"mount"}


def test_the_default_and_the_architectures_are_kept_but_x32() -> None:
    converted = to_oci(PROFILE, architecture="amd64", capabilities=())
    assert converted["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert (converted["defaultAction"], converted["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 38)


def test_arguments_are_kept_and_empty_conditions_dropped() -> None:
    rules = to_oci(PROFILE, architecture="amd64", capabilities=())["syscalls"]
    assert {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 8}]} in rules
    assert {"names": ["read"], "action": "SCMP_ACT_ALLOW"} in rules


def test_a_profile_in_the_oci_form_stays_what_it_is() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_LOG",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}],
    }
    assert to_oci(profile, architecture="amd64", capabilities=()) == profile
