"""The objects that the tests make."""

from __future__ import annotations

from podwire import v1

LABELS = {"app": "web"}


def pod(name: str, *, cpu: str = "", namespace: str = "default", labels: dict[str, str] | None = None) -> v1.Pod:
    requests = {"cpu": v1.Quantity(string=cpu)} if cpu else {}
    return v1.Pod(
        metadata=v1.ObjectMeta(name=name, namespace=namespace, labels=labels or {}),
        spec=v1.PodSpec(
            containers=[v1.Container(name="app", image="web:1", resources=v1.ResourceRequirements(requests=requests))]
        ),
    )


def deployment(replicas: int, image: str = "web:1", *, namespace: str = "default") -> v1.Deployment:
    return v1.Deployment(
        metadata=v1.ObjectMeta(name="web", namespace=namespace),
        spec=v1.DeploymentSpec(
            replicas=replicas,
            selector=v1.LabelSelector(match_labels=LABELS),
            template=v1.PodTemplateSpec(
                metadata=v1.ObjectMeta(labels=LABELS),
                spec=v1.PodSpec(containers=[v1.Container(name="app", image=image)]),
            ),
        ),
    )


def service(*, namespace: str = "default") -> v1.Service:
    return v1.Service(
        metadata=v1.ObjectMeta(name="web", namespace=namespace),
        spec=v1.ServiceSpec(selector=LABELS, ports=[v1.ServicePort(port=80, target_port=v1.IntOrString(int=8080))]),
    )
