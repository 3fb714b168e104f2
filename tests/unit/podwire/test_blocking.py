"""The blocking client: the same methods, from threads, with an end to everything."""

import asyncio
import inspect
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from podwire import client as asyncio_client
from podwire import errors, v1
from podwire.client import RetryPolicy, blocking
from tests.unit.podwire.conftest import QUICK
from tests.unit.podwire.fake_api import FakePods, serving

R = TypeVar("R")

WATCHES_UNTIL_CTRL_C = """
    try:
        for event in client.pods.watch():
            pass
    except KeyboardInterrupt:
        print("interrupted", len(client.pods.list().items))
"""


@pytest.fixture
async def endpoint(pods: FakePods, tmp_path: Path) -> AsyncIterator[str]:
    async with serving(pods, tmp_path / "s") as served:
        yield served


async def in_thread(endpoint: str, work: Callable[[blocking.Client], R]) -> R:
    """`work` with a client, beside the server's loop."""

    def connected() -> R:
        with blocking.Client.connect(endpoint, settings=QUICK) as client:
            return work(client)

    async with asyncio.timeout(60):
        return await asyncio.to_thread(connected)


def pod(name: str) -> v1.Pod:
    return v1.Pod(metadata=v1.ObjectMeta(name=name, namespace="default"))


def public_methods(of: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(member)
        for name, member in inspect.getmembers(of, inspect.isfunction)
        if not name.startswith("_")
    }


@pytest.mark.parametrize(
    ("ours", "theirs", "only_ours"),
    [
        (blocking.KindClient, asyncio_client.KindClient, {"informer"}),
        (blocking.PodClient, asyncio_client.PodClient, {"informer"}),
        (blocking.Client, asyncio_client.Client, set()),
        (blocking.ExecSession, asyncio_client.ExecSession, set()),
    ],
)
def test_it_has_the_methods_of_the_asyncio_client_with_the_same_parameters(
    ours: type, theirs: type, only_ours: set[str]
) -> None:
    here, there = public_methods(ours), public_methods(theirs)
    assert here.keys() - only_ours == there.keys()
    for name, signature in there.items():
        assert list(here[name].parameters.values()) == list(signature.parameters.values()), name


async def test_it_has_a_client_for_every_kind(endpoint: str) -> None:
    def work(client: blocking.Client) -> set[str]:
        return {name for name, member in vars(client).items() if isinstance(member, blocking.KindClient)}

    async with asyncio_client.Client.connect(endpoint) as client:
        kinds = {name for name, member in vars(client).items() if isinstance(member, asyncio_client.KindClient)}
    assert await in_thread(endpoint, work) == kinds


async def test_calls_wait_for_their_results(endpoint: str, pods: FakePods) -> None:
    def work(client: blocking.Client) -> list[str]:
        client.pods.create(pod("a"))
        client.pods.modify("a", lambda p: p.metadata.labels.update(app="x"), namespace="default")
        return [item.metadata.name for item in client.pods.list(namespace="default").items]

    assert await in_thread(endpoint, work) == ["a"]


async def test_errors_are_the_same(endpoint: str, pods: FakePods) -> None:
    pods.fail("Get", errors.NotFound("no such pod"), errors.Unavailable("starting"))

    def work(client: blocking.Client) -> None:
        with pytest.raises(errors.NotFound, match="no such pod"):
            client.pods.get("a", namespace="default")
        with pytest.raises(errors.Unavailable):
            client.with_retry(RetryPolicy.NEVER).pods.get("a", namespace="default")

    await in_thread(endpoint, work)


async def test_one_client_serves_many_threads(endpoint: str, pods: FakePods) -> None:
    def work(client: blocking.Client) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: client.pods.create(pod(f"p{number}")), range(40)))

    await in_thread(endpoint, work)
    assert len(pods.objects) == 40


async def test_a_watch_is_an_iterator_through_broken_streams(endpoint: str, pods: FakePods) -> None:
    def work(client: blocking.Client) -> list[str]:
        seen = []
        for event in client.pods.watch(resource_version="10", epoch="first"):
            seen.append(event.object.metadata.name)
            if len(seen) == 3:
                break
            loop.call_soon_threadsafe(pods.break_streams)
            loop.call_soon_threadsafe(pods.put, f"p{len(seen)}")
        return seen

    loop = asyncio.get_running_loop()
    pods.put("p0")
    assert await in_thread(endpoint, work) == ["p0", "p1", "p2"]


async def test_leaving_a_watch_ends_its_stream_at_the_server(endpoint: str, pods: FakePods) -> None:
    loop = asyncio.get_running_loop()

    def work(client: blocking.Client) -> None:
        for _ in client.pods.watch(resource_version="10", epoch="first"):
            break
        asyncio.run_coroutine_threadsafe(pods.until(lambda: pods.streams == 0), loop).result(20)

    pods.put("a")
    await in_thread(endpoint, work)
    assert pods.calls["Watch"] >= 1


async def test_logs_and_commands_work_both_ways(endpoint: str) -> None:
    def work(client: blocking.Client) -> tuple[list[bytes], list[tuple[str, bytes]], int]:
        logs = list(client.pods.logs(v1.LogsRequest(name="a")))
        with client.pods.exec(v1.ExecStart(name="a", command=["cat"])) as session:
            session.write(b"hello")
            session.close_stdin()
            return logs, list(session), session.exit_code

    assert await in_thread(endpoint, work) == ([b"one\n", b"two\n"], [("stdout", b"hello")], 3)


async def test_closing_ends_what_other_threads_wait_for(endpoint: str, pods: FakePods) -> None:
    client = blocking.Client.connect(endpoint, settings=QUICK)
    watching = asyncio.create_task(asyncio.to_thread(lambda: list(client.pods.watch())))
    await pods.until(lambda: pods.calls["Watch"] >= 1)
    await asyncio.to_thread(client.close)
    with pytest.raises(blocking.Closed, match="closed while this call was under way"):
        async with asyncio.timeout(30):
            await watching
    with pytest.raises(blocking.Closed, match="the client is closed"):
        client.pods.list()
    client.close()


async def test_no_thread_is_left_behind(endpoint: str) -> None:
    def threads() -> int:
        return sum(thread.name.startswith("podwire-") for thread in threading.enumerate())

    def forget() -> None:
        blocking.Client.connect(endpoint).namespaces.kind  # noqa: B018 - collected at once

    before = threads()
    await in_thread(endpoint, lambda client: client.pods.list())
    await asyncio.to_thread(forget)
    assert threads() == before


async def test_an_informer_keeps_a_picture_and_its_handlers_may_use_the_client(endpoint: str, pods: FakePods) -> None:
    loop = asyncio.get_running_loop()

    def work(client: blocking.Client) -> list[tuple[str, bool, bool]]:
        heard: list[tuple[str, bool, bool]] = []
        enough = threading.Event()

        def handler(key: str, old: v1.Pod | None, new: v1.Pod | None) -> None:
            if new is not None:
                client.pods.get(new.metadata.name, namespace="default")
            heard.append((key, old is not None, new is not None))
            if len(heard) == 3:
                enough.set()

        with client.pods.informer(namespace="default") as informer:
            informer.add_index("app", lambda item: [item.metadata.labels["app"]])
            informer.wait_synced(20)
            informer.add_handler(handler)
            assert informer.synced
            assert informer.keys() == ["default/web"]
            loop.call_soon_threadsafe(lambda: pods.put("web", app="y"))
            loop.call_soon_threadsafe(lambda: pods.put("db", app="y"))
            assert enough.wait(20)
            assert [item.metadata.name for item in informer.by_index("app", "y")] == ["web", "db"]
            assert len(informer.values()) == 2
            assert informer.get("default/nobody") is None
        return heard

    pods.put("web", app="x")
    assert await in_thread(endpoint, work) == [
        ("default/web", False, True),
        ("default/web", True, True),
        ("default/db", False, True),
    ]


async def test_what_a_handler_raises_ends_the_informer_and_is_raised_where_it_is_used(
    endpoint: str, pods: FakePods
) -> None:
    def work(client: blocking.Client) -> None:
        failed = threading.Event()

        def handler(key: str, old: object, new: object) -> None:
            failed.set()
            raise ZeroDivisionError(key)

        with pytest.raises(ZeroDivisionError), client.pods.informer() as informer:
            informer.wait_synced(20)
            informer.add_handler(handler)
            assert failed.wait(20)

    pods.put("web")
    await in_thread(endpoint, work)


async def test_an_informer_with_a_wrong_selector_says_so(endpoint: str, pods: FakePods) -> None:
    pods.fail("List", errors.Invalid("no such selector"))

    def work(client: blocking.Client) -> None:
        with (
            pytest.raises(errors.Invalid, match="no such selector"),
            client.pods.informer(label_selector="!!") as informer,
        ):
            informer.wait_synced(20)

    await in_thread(endpoint, work)


async def test_an_informer_that_is_not_synced_in_time_says_so(endpoint: str, pods: FakePods) -> None:
    def work(client: blocking.Client) -> None:
        with client.pods.informer() as informer, pytest.raises(TimeoutError, match="not synced within"):
            informer.wait_synced(0.01)

    pods.fail("List", *(errors.Unavailable("starting") for _ in range(1000)))
    await in_thread(endpoint, work)


def script(endpoint: str, text: str) -> subprocess.Popen[str]:
    """A program of its own, with a client; it hears of Ctrl-C also where these tests run in a shell's background."""
    start = f"""
        import os, signal
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from podwire.client import blocking
        client = blocking.Client.connect({endpoint!r})
    """
    program = textwrap.dedent(start) + textwrap.dedent(text)
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path.cwd(),
    )


async def end_of(process: subprocess.Popen[str], said: str | None = None) -> tuple[str, str]:
    """What it has written by its end; it hears what is `said`."""
    try:
        return await asyncio.to_thread(process.communicate, said, timeout=60)
    finally:
        process.kill()


async def test_ctrl_c_ends_a_watch(endpoint: str, pods: FakePods) -> None:
    process = script(endpoint, WATCHES_UNTIL_CTRL_C)
    pods.put("a")
    await pods.until(lambda: pods.calls["Watch"] >= 1)
    process.send_signal(signal.SIGINT)
    out, err = await end_of(process)
    assert (process.returncode, out) == (0, "interrupted 1\n"), err


async def test_a_signal_that_does_not_wake_the_main_thread_ends_a_watch_too(endpoint: str, pods: FakePods) -> None:
    """As one that comes just before the thread begins to wait: here it comes to another thread."""
    interrupting = """
        import sys, threading

        def interrupt():
            sys.stdin.readline()
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)

        threading.Thread(target=interrupt).start()
    """
    process = script(endpoint, textwrap.dedent(interrupting) + textwrap.dedent(WATCHES_UNTIL_CTRL_C))
    pods.put("a")
    await pods.until(lambda: pods.calls["Watch"] >= 1)
    out, err = await end_of(process, "now\n")
    assert (process.returncode, out) == (0, "interrupted 1\n"), err


async def test_a_fork_is_told_to_make_its_own_client(endpoint: str, pods: FakePods) -> None:
    process = script(
        endpoint,
        """
        print(len(client.pods.list().items), flush=True)
        if os.fork() == 0:
            try:
                client.pods.list()
            except RuntimeError as error:
                print(error, flush=True)
            client.close()
            os._exit(0)
        os.wait()
        print(len(client.pods.list().items))
        """,
    )
    out, err = await end_of(process)
    first, refused, last = out.splitlines()
    assert (process.returncode, first, last) == (0, "0", "0"), err
    assert refused.startswith("this client belongs to process ")


async def test_a_program_that_forgets_to_close_ends_all_the_same(endpoint: str, pods: FakePods) -> None:
    process = script(endpoint, "events = client.pods.watch(send_initial_events=True); print(next(events).type)")
    out, err = await end_of(process)
    assert (process.returncode, out, err) == (0, "BOOKMARK\n", "")
