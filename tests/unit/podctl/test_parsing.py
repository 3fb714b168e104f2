"""Command lines of kubectl's users."""

import click
import pytest
from click.testing import CliRunner

from podctl.cli import app
from podctl.parsing import Globals, plain_flags, separate_command

WITH_VALUES = {"-c", "--container", "-n", "--namespace", "--config"}


@pytest.mark.parametrize(
    ("given", "separated"),
    [
        ("-it web -- bash -l", "-it web -- bash -l"),
        ("web ls -l", "web -- ls -l"),
        ("-it web -c app bash -c ls", "-it web -c app -- bash -c ls"),
        ("-n space web env", "-n space web -- env"),
        ("--container=app web cat -", "--container=app web -- cat -"),
        ("deploy/web -i cat", "deploy/web -i -- cat"),
        ("web", "web"),
        ("web -- sh -c -- x", "web -- sh -c -- x"),
    ],
)
def test_options_after_the_commands_first_word_are_its_own(given: str, separated: str) -> None:
    assert separate_command(given.split(), WITH_VALUES) == separated.split()


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("--wait=false", "--no-wait"),
        ("--wait=true pods", "--wait pods"),
        ("--force=false --force=true", "--force"),
        ("--name=false", "--name=false"),
        ("x -- --wait=false", "x -- --wait=false"),
    ],
)
def test_flags_take_values(given: str, plain: str) -> None:
    params = [
        click.Option(["--wait/--no-wait"]),
        click.Option(["--force"], is_flag=True),
        click.Option(["--name"]),
    ]
    assert plain_flags(given.split(), params) == plain.split()


@pytest.mark.parametrize(
    "words", ["-n space version --client", "version --client -n space", "version -n space --client"]
)
def test_global_options_stand_anywhere(words: str) -> None:
    options = Globals()
    result = CliRunner().invoke(app, words.split(), obj=options)
    assert result.exit_code == 0
    assert options.namespace == "space"


@pytest.mark.parametrize(
    "words", ["get --frob", "frob", "scale deploy/web", "exec web", "wait pod/web", "apply --dry-run=x"]
)
def test_wrong_usage_ends_with_two(words: str) -> None:
    result = CliRunner().invoke(app, words.split(), obj=Globals())
    assert result.exit_code == 2
    assert "Usage: " in result.output


def test_every_command_has_help() -> None:
    for name in app.commands:
        result = CliRunner().invoke(app, [name, "--help"], obj=Globals())
        assert result.exit_code == 0, name
        assert "--namespace" in result.output, name
