"""The walk-through of the users' own document, with manifests of its shape: probes as a person would try them."""

from __future__ import annotations

import asyncio
import re

import pytest

from podwire import v1
from tests.e2e.cluster import Space, is_ready, restarts

EXEC_LIVENESS = """
apiVersion: v1
kind: Pod
metadata:
  labels:
    test: liveness
  name: liveness-exec
spec:
  containers:
  - name: liveness
    image: docker.io/alpine
    args:
    - /bin/sh
    - -c
    - touch /tmp/healthy; sleep 30; rm -rf /tmp/healthy; sleep 600
    livenessProbe:
      exec:
        command:
        - cat
        - /tmp/healthy
      initialDelaySeconds: 5
      periodSeconds: 5
"""

HTTP_LIVENESS = """
apiVersion: v1
kind: Pod
metadata:
  labels:
    test: liveness
    app: httpd
  name: liveness-http
spec:
  containers:
  - name: liveness
    image: docker.io/httpd
    ports:
    - containerPort: 80
    livenessProbe:
      httpGet:
        path: /index.html
        port: 80
        httpHeaders:
        - name: X-Custom-Header
          value: Awesome
      initialDelaySeconds: 5
      periodSeconds: 5
"""

TCP_LIVENESS = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: nginx-deployment
  labels:
    app: nginx
spec:
  selector:
    matchLabels:
      app: nginx
  replicas: 1
  template:
    metadata:
      labels:
        app: nginx
    spec:
      containers:
      - name: nginx
        image: nginx
        imagePullPolicy: IfNotPresent
        ports:
        - containerPort: 80
        livenessProbe:
          tcpSocket:
            port: 80
          initialDelaySeconds: 5
          periodSeconds: 3
"""

EXEC_READINESS = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: busybox-deployment
  labels:
    app: busybox
spec:
  selector:
    matchLabels:
      app: busybox
  replicas: 3
  template:
    metadata:
      labels:
        app: busybox
    spec:
      containers:
      - name: busybox
        image: busybox:latest
        imagePullPolicy: IfNotPresent
        ports:
        - containerPort: 80
        args:
        - /bin/sh
        - -c
        - touch /tmp/healthy; sleep 30; rm -rf /tmp/healthy; sleep 600
        readinessProbe:
          exec:
            command:
            - cat
            - /tmp/healthy
          initialDelaySeconds: 5
          periodSeconds: 5
"""

HTTP_READINESS = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: nginx-deployment
  labels:
    app: nginx
spec:
  selector:
    matchLabels:
      app: nginx
  replicas: 2
  template:
    metadata:
      labels:
        app: nginx
    spec:
      containers:
      - name: nginx
        image: nginx
        imagePullPolicy: IfNotPresent
        ports:
        - containerPort: 80
        readinessProbe:
          httpGet:
            path: /index.html
            port: 80
            httpHeaders:
            - name: X-Custom-Header
              value: hello
          initialDelaySeconds: 5
          periodSeconds: 3
---
apiVersion: v1
kind: Service
metadata:
  name: nginx
spec:
  type: NodePort
  ports:
    - port: 80
      nodePort: 30001
  selector:
    app: nginx
"""


async def test_a_pod_whose_exec_liveness_probe_fails_is_restarted_after_its_grace_and_again(space: Space) -> None:
    await space.apply(EXEC_LIVENESS)
    first = await space.wait_for_pod("liveness-exec", lambda pod: pod.status.phase == "Running")
    assert restarts(first) == 0
    # 30 s until the file goes, three failures 5 s apart, and 30 s of grace: a shell as PID 1 ignores SIGTERM.
    again = await space.wait_for_pod("liveness-exec", lambda pod: restarts(pod) == 1, timeout=120)
    ended = again.status.container_statuses[0].last_state.terminated
    assert ended.exit_code == 137
    assert 70 <= ended.finished_at.seconds - ended.started_at.seconds <= 95
    described = (await space.podctl("describe", "pod", "liveness-exec")).stdout
    assert re.search(r"Liveness probe failed: cat: can't open '/tmp/healthy': No such file or directory", described)
    assert "Container liveness failed liveness probe, will be restarted" in described
    await space.wait_for_pod("liveness-exec", lambda pod: restarts(pod) == 2, timeout=120)


async def test_a_pod_whose_exec_liveness_probe_holds_is_never_restarted(space: Space) -> None:
    await space.apply(EXEC_LIVENESS.replace("rm -rf /tmp/healthy; ", ""))
    await space.wait_for_pod("liveness-exec", lambda pod: pod.status.phase == "Running")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60):
            await space.wait_for_pod("liveness-exec", lambda pod: restarts(pod) > 0, timeout=120)


async def test_http_liveness_with_a_header_keeps_httpd_running_until_its_page_is_gone(space: Space) -> None:
    await space.apply(HTTP_LIVENESS)
    await space.wait_for_pod("liveness-http", lambda pod: pod.status.phase == "Running")
    await space.podctl("exec", "liveness-http", "--", "rm", "/usr/local/apache2/htdocs/index.html")
    pod = await space.wait_for_pod("liveness-http", lambda pod: restarts(pod) == 1, timeout=60)
    assert pod.status.container_statuses[0].last_state.terminated.exit_code == 0
    described = (await space.podctl("describe", "pod", "liveness-http")).stdout
    assert "Liveness probe failed: HTTP probe failed with statuscode: 404" in described


async def test_tcp_liveness_keeps_a_deployment_running_while_its_port_answers(space: Space) -> None:
    await space.apply(TCP_LIVENESS)
    await space.podctl("wait", "--for=condition=Available", "deployment/nginx-deployment", "--timeout=60s")
    (pod,) = await space.pods("app=nginx")
    name = pod.metadata.name
    await space.podctl("exec", name, "--", "sh", "-c", "sed -i 's/listen 80.*;/listen 81;/' /etc/nginx/nginx.conf")
    await space.podctl("exec", name, "--", "nginx", "-s", "reload")
    await space.wait_for_pod(name, lambda pod: restarts(pod) == 1, timeout=60)
    described = (await space.podctl("describe", "pod", name)).stdout
    assert re.search(r"Liveness probe failed: dial tcp \S+:80: connect: connection refused", described)


async def test_exec_readiness_takes_three_replicas_out_without_restarting_them(space: Space) -> None:
    await space.apply(EXEC_READINESS)

    def all_ready(pods: list[v1.Pod]) -> bool:
        return len(pods) == 3 and all(map(is_ready, pods))

    def all_unready_again(pods: list[v1.Pod]) -> bool:
        return len(pods) == 3 and not any(map(is_ready, pods))

    await space.wait_for_pods(all_ready)
    await space.wait_for_pods(all_unready_again, timeout=90)
    shown = await space.podctl("get", "pods")
    assert [row[1:4] for row in shown.rows] == [["0/1", "Running", "0"]] * 3
    for pod in await space.pods():
        assert restarts(pod) == 0
        assert (await space.podctl("exec", pod.metadata.name, "--", "echo", "here")).stdout == "here\n"


async def test_http_readiness_moves_traffic_to_the_pod_that_has_its_page(space: Space) -> None:
    cluster = space.cluster
    await space.apply(HTTP_READINESS)
    pods = await space.wait_for_pods(lambda pods: len(pods) == 2 and all(map(is_ready, pods)))
    broken, healthy = (pod.metadata.name for pod in pods)
    for name in (broken, healthy):
        page = "/usr/share/nginx/html/index.html"
        await space.podctl("exec", name, "--", "sh", "-c", f"echo {name} > {page}")
    service = await space.client.services.get("nginx", namespace=space.name)
    addresses = [str(cluster.host(node).address) for node in cluster.nodes]
    node_urls = [f"http://{address}:30001/index.html" for address in addresses]
    cluster_url = f"http://{service.spec.cluster_ip}/index.html"

    async def answers(n: int = 12) -> set[str]:
        bodies = set()
        for _ in range(n):
            for url, host in [
                *((url, "client") for url in node_urls),
                *((cluster_url, node) for node in cluster.nodes),
            ]:
                code, body = await cluster.get_url(url, host=host)
                assert code == 200, f"{url} from {host}: {code}"
                bodies.add(body.strip())
        return bodies

    assert await answers() == {broken, healthy}

    await space.podctl("exec", "-i", broken, "/bin/bash", stdin="rm /usr/share/nginx/html/index.html\n")
    await space.wait_for_pod(broken, lambda pod: not is_ready(pod))
    rows = {row[0]: row[1:4] for row in (await space.podctl("get", "pods")).rows}
    assert rows == {broken: ["0/1", "Running", "0"], healthy: ["1/1", "Running", "0"]}
    described = (await space.podctl("describe", "pod", broken)).stdout
    assert "Readiness probe failed: HTTP probe failed with statuscode: 404" in described
    await space.wait_for_endpoints("nginx", {healthy})
    before = (await space.podctl("logs", broken)).lines
    assert await answers() == {healthy}
    requests = [line for line in (await space.podctl("logs", broken)).lines[len(before) :] if '] "GET' in line]
    assert all("podwire-probe/" in line and " 404 " in line for line in requests), requests
    served = [line for line in (await space.podctl("logs", healthy)).lines if "curl/" in line]
    assert len(served) >= 12 * (len(node_urls) + len(cluster.nodes))

    async def is_counted() -> bool:
        described = (await space.podctl("describe", "pod", broken)).stdout
        return re.search(r"\(x\d+ over \d+s\).*Readiness probe failed: HTTP probe failed", described) is not None

    from_now = asyncio.get_running_loop().time()
    while not await is_counted():
        assert asyncio.get_running_loop().time() < from_now + 30, "the failures are counted in one event"

    await space.podctl("exec", "-i", broken, "/bin/bash", stdin=f"echo {broken} > /usr/share/nginx/html/index.html\n")
    await space.wait_for_pod(broken, is_ready)
    await space.wait_for_endpoints("nginx", {broken, healthy})
    assert await answers() == {broken, healthy}
