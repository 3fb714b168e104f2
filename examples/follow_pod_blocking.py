"""The same as follow_pod.py in a program without asyncio: `.venv/bin/python examples/follow_pod_blocking.py`."""

from podwire import config, v1
from podwire.client import blocking

container = v1.Container(name="hello", image="alpine", args=["echo", "hello"])
spec = v1.PodSpec(containers=[container], restart_policy="Never")
found = config.load()
with blocking.Client.connect(found.endpoints, tls=found.tls) as client:
    pod = client.pods.create(v1.Pod(metadata=v1.ObjectMeta(name="hello", namespace="default"), spec=spec))
    this_pod = f"metadata.name={pod.metadata.name}"
    for event in client.pods.watch(namespace="default", field_selector=this_pod, send_initial_events=True):
        if event.type != "BOOKMARK":
            print(event.type, event.object.status.phase)
        if event.object.status.phase in ("Succeeded", "Failed"):
            break
    for piece in client.pods.logs(v1.LogsRequest(namespace="default", name=pod.metadata.name)):
        print(piece.decode(), end="")
