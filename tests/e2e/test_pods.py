"""What containers of a pod share, what they do not, and how pods reach each other across nodes."""

from __future__ import annotations

from podwire import v1
from tests.e2e.cluster import Space, eventually, is_ready, restarts

SHARING = """
apiVersion: v1
kind: Pod
metadata:
  name: sharing
spec:
  terminationGracePeriodSeconds: 1
  shareProcessNamespace: {share}
  volumes:
  - name: work
    emptyDir: {{}}
  initContainers:
  - name: first
    image: busybox
    command: [sh, -c, "echo first >> /work/order; sleep 1"]
    volumeMounts: [{{name: work, mountPath: /work}}]
  - name: second
    image: busybox
    command: [sh, -c, "echo second >> /work/order"]
    volumeMounts: [{{name: work, mountPath: /work}}]
  containers:
  - name: server
    image: busybox
    workingDir: /work
    env:
    - name: GREETING
      value: hello
    - name: WHOLE
      value: $(GREETING), world
    command: [sh, -c, "echo third >> order; echo $WHOLE > index.html; exec httpd -f -p 8080"]
    volumeMounts: [{{name: work, mountPath: /work}}]
    readinessProbe:
      httpGet: {{path: /index.html, port: web}}
      periodSeconds: 1
    ports: [{{name: web, containerPort: 8080}}]
  - name: peer
    image: busybox
    args: [sleep, "600"]
    volumeMounts: [{{name: work, mountPath: /shared, readOnly: true}}]
"""


async def test_containers_of_a_pod_share_localhost_hostname_and_volumes_after_init_containers_in_order(
    space: Space,
) -> None:
    await space.apply(SHARING.format(share="false"))
    await space.wait_for_pod("sharing", is_ready)

    async def peer(*command: str) -> str:
        return (await space.podctl("exec", "sharing", "-c", "peer", "--", *command)).stdout

    assert await peer("cat", "/shared/order") == "first\nsecond\nthird\n"
    assert await peer("wget", "-q", "-O", "-", "http://127.0.0.1:8080/index.html") == "hello, world\n"
    assert await peer("hostname") == "sharing\n"
    server = await space.podctl("exec", "sharing", "-c", "server", "--", "hostname")
    assert server.stdout == "sharing\n"
    read_only = await space.podctl("exec", "sharing", "-c", "peer", "--", "touch", "/shared/x", check=False)
    assert read_only.code == 1 and "Read-only file system" in read_only.stderr
    processes = await peer("ps")
    assert "httpd" not in processes
    pod = await space.pod("sharing")
    assert [(s.name, s.state.terminated.reason) for s in pod.status.init_container_statuses] == [
        ("first", "Completed"),
        ("second", "Completed"),
    ]


async def test_containers_that_share_the_process_namespace_see_each_other_and_pause_reaps(space: Space) -> None:
    await space.apply(SHARING.format(share="true"))
    await space.wait_for_pod("sharing", is_ready)
    shown = (await space.podctl("exec", "sharing", "-c", "peer", "--", "ps", "-o", "pid,args")).lines
    processes = {int(pid): args for pid, args in (line.split(None, 1) for line in shown[1:])}
    assert "catatonit" in processes[1]
    assert any(args.startswith("httpd") for args in processes.values())
    # An orphan becomes pause's child, and is gone once it has ended: no zombie stays.
    orphan = "(sh -c 'sleep 0.1' &) ; exit 0"
    await space.podctl("exec", "sharing", "-c", "peer", "--", "sh", "-c", orphan)

    async def no_zombie() -> bool:
        states = await space.podctl("exec", "sharing", "-c", "peer", "--", "ps", "-o", "stat,args")
        return not any(line.startswith("Z") for line in states.lines)

    await eventually(no_zombie, "pause reaps the orphan")


TWO_NODES = """
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  labels: {{app: {name}}}
spec:
  nodeSelector:
    kubernetes.io/hostname: {node}
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    command: [sh, -c, "echo {name} > /tmp/index.html; exec httpd -f -p 80 -h /tmp"]
    readinessProbe:
      tcpSocket: {{port: 80}}
      periodSeconds: 1
"""

SERVICE = """
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  selector: {app: there}
  ports: [{port: 8000, targetPort: 80}]
"""


async def test_pods_on_different_nodes_reach_each_other_and_the_service(space: Space) -> None:
    here, there = space.cluster.nodes
    await space.apply(TWO_NODES.format(name="here", node=here))
    await space.apply(TWO_NODES.format(name="there", node=there))
    await space.apply(SERVICE)
    client = await space.wait_for_pod("here", is_ready)
    server = await space.wait_for_pod("there", is_ready)
    assert (client.spec.node_name, server.spec.node_name) == (here, there)

    async def fetch(pod: str, url: str) -> str:
        return (
            await space.podctl("exec", pod, "--", "timeout", "3", "wget", "-q", "-O", "-", url, check=False)
        ).stdout.strip()

    assert await fetch("here", f"http://{server.status.pod_ip}/") == "there"
    assert await fetch("there", f"http://{client.status.pod_ip}/") == "here"
    service = await space.client.services.get("web", namespace=space.name)
    url = f"http://{service.spec.cluster_ip}:8000/"

    async def serves(pod: str) -> bool:
        return await fetch(pod, url) == "there"

    await eventually(lambda: serves("here"), "the service from another node's pod")
    await eventually(lambda: serves("there"), "the service from its own backend (hairpin)")


async def test_a_service_without_ready_endpoints_refuses_at_once(space: Space) -> None:
    await space.apply(SERVICE)
    service = await space.client.services.get("web", namespace=space.name)

    async def refuses() -> bool:
        curl = ["curl", "--noproxy", "*", "-sS", "--max-time", "2", f"http://{service.spec.cluster_ip}:8000/"]
        output = await space.cluster.on(space.cluster.nodes[0], *curl, check=False)
        return output.code == 7  # refused; a silent drop would be 28, a time-out

    await eventually(refuses, "a connection to the service is refused")


CRASHING = """
apiVersion: v1
kind: Pod
metadata:
  name: crashing
spec:
  containers:
  - name: main
    image: busybox
    command: [sh, -c, "echo trying; exit 3"]
"""


async def test_a_crashing_container_backs_off_and_says_why(space: Space) -> None:
    await space.apply(CRASHING)
    pod = await space.wait_for_pod(
        "crashing",
        lambda pod: any(s.state.waiting.reason == "CrashLoopBackOff" for s in pod.status.container_statuses),
    )
    assert restarts(pod) == 1  # the first restart is at once, the second after 10 s
    (status,) = pod.status.container_statuses
    assert status.last_state.terminated.exit_code == 3
    before = status.last_state.terminated

    def ended_again(pod: v1.Pod) -> bool:
        last = pod.status.container_statuses[0].last_state.terminated
        return restarts(pod) == 2 and last.container_id != before.container_id

    again = (await space.wait_for_pod("crashing", ended_again)).status.container_statuses[0].last_state.terminated
    assert 9 <= again.started_at.seconds - before.finished_at.seconds <= 14
    assert (await space.podctl("logs", "crashing")).stdout == "trying\n"


async def test_a_missing_image_is_reported_by_name(space: Space) -> None:
    await space.apply(CRASHING.replace("image: busybox", "image: nosuchimage:1"))
    pod = await space.wait_for_pod(
        "crashing",
        lambda pod: any(
            s.state.waiting.reason in ("ErrImagePull", "ImagePullBackOff") for s in pod.status.container_statuses
        ),
    )
    assert "nosuchimage" in pod.status.container_statuses[0].state.waiting.message
