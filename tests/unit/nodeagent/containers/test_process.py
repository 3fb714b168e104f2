"""The image's configuration and the pod's spec, put together."""

import signal

import pytest

from nodeagent.containers.errors import ContainerError
from nodeagent.containers.process import DEFAULT_PATH, Process, expand, process, stop_signal
from nodeagent.containers.users import Accounts
from nodeagent.model import Image
from podwire import v1


def image(**fields: object) -> Image:
    given: dict[str, object] = {"entrypoint": (), "command": (), "env": (), "working_dir": "", "user": ""}
    given |= {"name": "x", "digest": "d", "chain_id": "c", "stop_signal": ""} | fields
    return Image(**given)  # type: ignore[arg-type]


def run(image: Image, container: v1.Container, *env: tuple[str, str]) -> Process:
    return process(image, v1.Pod(), container, env=env, hostname="pod", accounts=Accounts(), capabilities=())


@pytest.mark.parametrize(
    ("command", "args", "runs"),
    [
        ([], [], ("/entry", "default")),
        ([], ["own"], ("/entry", "own")),
        (["/own"], [], ("/own",)),
        (["/own"], ["arg"], ("/own", "arg")),
    ],
)
def test_command_and_args_replace_entrypoint_and_cmd(
    command: list[str], args: list[str], runs: tuple[str, ...]
) -> None:
    made = image(entrypoint=("/entry",), command=("default",))
    assert run(made, v1.Container(command=command, args=args)).arguments == runs


def test_without_any_command_there_is_nothing_to_run() -> None:
    with pytest.raises(ContainerError, match="no command to run"):
        run(image(), v1.Container())


def test_the_environment_is_the_images_then_the_containers() -> None:
    made = run(image(env=("A=image", "B=image=too")), v1.Container(command=["x"]), ("A", "own"), ("C", ""))
    assert made.env == (f"PATH={DEFAULT_PATH}", "HOSTNAME=pod", "A=own", "B=image=too", "C=")
    assert "TERM=xterm" in run(image(), v1.Container(command=["x"], tty=True)).env
    assert run(image(env=("PATH=/bin",)), v1.Container(command=["x"])).env[0] == "PATH=/bin"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(A)", "x1y1"),
        ("$(NONE)", "$(NONE)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A $", "$A $"),
        ("$(A", "$(A"),
    ],
)
def test_references_to_variables_are_expanded_as_in_kubernetes(text: str, meant: str) -> None:
    assert expand(text, {"A": "1"}) == meant


def test_only_the_pods_own_words_are_expanded() -> None:
    made = run(image(entrypoint=("$(A)",)), v1.Container(args=["$(A)"]), ("A", "1"))
    assert made.arguments == ("$(A)", "1")


@pytest.mark.parametrize(
    ("own", "images", "number"),
    [
        ("", "", signal.SIGTERM),
        ("", "SIGQUIT", signal.SIGQUIT),
        ("SIGINT", "SIGQUIT", signal.SIGINT),
        ("", "quit", signal.SIGQUIT),
        ("", "9", signal.SIGKILL),
        ("", "SIGRTMIN+3", signal.SIGRTMIN + 3),
        ("", "SIGRTMAX-2", signal.SIGRTMAX - 2),
        ("", "SIGUSR1", signal.SIGUSR1),
    ],
)
def test_the_stop_signal_is_the_containers_else_the_images(own: str, images: str, number: int) -> None:
    container = v1.Container(lifecycle=v1.Lifecycle(stop_signal=own))
    assert stop_signal(image(stop_signal=images), container) == number


@pytest.mark.parametrize("text", ["SIGNONE", "0", "99", "SIGRTMAX+1", "BLOCK", "X Y"])
def test_a_signal_that_does_not_exist_is_an_error(text: str) -> None:
    with pytest.raises(ContainerError, match="no signal"):
        stop_signal(image(stop_signal=text), v1.Container())


def test_privileges_can_be_gained_unless_that_is_forbidden() -> None:
    context = v1.SecurityContext(allow_privilege_escalation=False)
    assert not run(image(), v1.Container(command=["x"])).no_new_privileges
    assert run(image(), v1.Container(command=["x"], security_context=context)).no_new_privileges


def test_no_limit_is_set_and_no_capability_is_inherited() -> None:
    oci = run(image(), v1.Container(command=["x"])).to_oci()
    assert "rlimits" not in oci
    assert oci["capabilities"].keys() == {"bounding", "effective", "permitted"}
