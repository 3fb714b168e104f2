"""Manifests: what they may look like, and what is said about those that are wrong."""

import json
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podwire import kinds, manifest, v1
from podwire.errors import FieldError, Invalid
from podwire.kinds import Kind
from tests.unit.podwire.messages import objects

POD = """\
# a comment, as people write them
apiVersion: v1
kind: Pod
metadata:
  labels:
    test: liveness
  name: probed
  creationTimestamp: null
spec:
  containers:
  - name: probed
    image: docker.io/alpine
    args:
    - /bin/sh
    - -c
#a comment at the margin
    - touch /tmp/healthy; sleep 30; rm -rf /tmp/healthy; sleep 600
    livenessProbe:
      exec:
        command:
        - cat
        - /tmp/healthy
      initialDelaySeconds: 0
      periodSeconds: 5
"""


def load(text: str) -> list[manifest.Document]:
    return manifest.load(textwrap.dedent(text), "web.yaml")


def spec_of(field: str) -> v1.PodSpec:
    """A pod's spec with one line more."""
    pod: v1.Pod = load(f"apiVersion: v1\nkind: Pod\nspec: {{{field}}}")[0].message()
    return pod.spec


def errors_of(text: str) -> dict[str, str]:
    """path -> message, of everything wrong with the objects in `text`."""
    with pytest.raises(Invalid) as raised:
        for document in load(text):
            document.message()
    return {error.path: error.message for error in raised.value.errors}


def problem(text: str) -> str:
    with pytest.raises(Invalid) as raised:
        for document in load(text):
            document.message()
    return str(raised.value)


def test_a_pod_as_people_write_it_is_read() -> None:
    [document] = load(POD)
    pod: v1.Pod = document.message()
    assert document.kind is kinds.POD
    assert pod.metadata.labels == {"test": "liveness"}
    assert pod.spec.containers[0].args[2].startswith("touch /tmp/healthy;")
    probe = pod.spec.containers[0].liveness_probe
    assert (probe.HasField("initial_delay_seconds"), probe.initial_delay_seconds, probe.period_seconds) == (True, 0, 5)
    assert not probe.HasField("timeout_seconds")


def test_a_deployment_and_a_service_in_one_file_are_two_objects() -> None:
    deployment, service = load(
        """
        ---
        apiVersion: apps/v1
        kind: Deployment
        metadata: {name: web, namespace: default, labels: {app: web}}
        spec:
          replicas: 0
          selector: {matchLabels: {app: web}}
          template:
            metadata: {labels: {app: web}}
            spec:
              containers:
              - name: web
                image: nginx
                readinessProbe:
                  httpGet: {path: /index.html, port: http, httpHeaders: [{name: X-Custom-Header, value: hello}]}
        ---
        # nothing here
        ---
        apiVersion: v1
        kind: Service
        metadata: {name: web}
        spec:
          type: NodePort
          ports:
            - port: 80
              targetPort: 80
              nodePort: 30001
          selector:
            app: web
        """
    )
    assert deployment.message().spec.HasField("replicas")
    container = deployment.message().spec.template.spec.containers[0]
    assert container.readiness_probe.http_get.port == v1.IntOrString(string="http")
    assert service.message().spec.ports[0].target_port == v1.IntOrString(int=80)


def test_lists_are_taken_apart() -> None:
    items = [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}} for name in ("a", "b")]
    for kind in ("List", "PodList"):
        documents = load(json.dumps({"apiVersion": "v1", "kind": kind, "items": items}))
        assert [document.message().metadata.name for document in documents] == ["a", "b"]


def test_json_is_read_as_json() -> None:
    text = r'{"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "\ud83d\ude00\/"}}'
    assert load(text)[0].message().data == {"a": "😀/"}


@pytest.mark.parametrize("kind", [kind for kind in kinds.KINDS if not kind.read_only], ids=lambda kind: kind.name)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_message_comes_back_from_its_manifest(kind: Kind, data: st.DataObject) -> None:
    message = data.draw(objects(kind))
    tree = manifest.to_tree(kind, message)
    assert manifest.from_tree(kind, tree) == message
    assert manifest.from_tree(kind, json.loads(json.dumps(tree))) == message


@settings(max_examples=100, deadline=None)
@given(texts=st.dictionaries(st.text("abc"), st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.just("\n"))))
def test_text_comes_back_from_yaml(texts: dict[str, str]) -> None:
    tree = {"apiVersion": "v1", "kind": "ConfigMap", "data": texts}
    assert manifest.load(manifest.dump([tree]))[0].tree == tree


@pytest.mark.parametrize(
    "text", ["0644", "0o644", "yes", "12:30:00", "2006-01-02", "1e3", "~", "null", "1_000", "0x1f", "", " a", "<<", "="]
)
def test_text_that_looks_like_something_else_is_quoted(text: str) -> None:
    tree = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": text}}
    assert manifest.load(manifest.dump([tree]))[0].message().data == {"a": text}


def test_what_is_printed_has_kubectls_order_and_layout() -> None:
    pod = load(POD)[0].message()
    assert manifest.dump([manifest.to_tree(kinds.POD, pod)]) == textwrap.dedent("""\
        apiVersion: v1
        kind: Pod
        metadata:
          labels:
            test: liveness
          name: probed
        spec:
          containers:
          - args:
            - /bin/sh
            - -c
            - touch /tmp/healthy; sleep 30; rm -rf /tmp/healthy; sleep 600
            image: docker.io/alpine
            livenessProbe:
              exec:
                command:
                - cat
                - /tmp/healthy
              initialDelaySeconds: 0
              periodSeconds: 5
            name: probed
        """)


def test_several_lines_are_printed_as_a_block() -> None:
    tree = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "one\ntwo\n"}}
    assert "a: |\n    one\n    two\n" in manifest.dump([tree])


@pytest.mark.parametrize(
    ("mode", "value"), [("0644", 420), ("0o644", 420), ("420", 420), ("0x1a4", 420), ("0b11", 3), ("-7", -7), ("08", 8)]
)
def test_numbers_are_read_in_every_notation(mode: str, value: int) -> None:
    volume = spec_of(f"volumes: [{{configMap: {{defaultMode: {mode}}}}}]").volumes[0]
    assert volume.config_map.default_mode == value


@pytest.mark.parametrize(("word", "value"), [("yes", True), ("off", False), ("True", True), ("NO", False)])
def test_booleans_are_read_as_kubectl_reads_them(word: str, value: bool) -> None:
    assert spec_of(f"hostNetwork: {word}").host_network is value


@pytest.mark.parametrize(
    ("written", "stored"),
    [("1", "1"), ("0.5", "500m"), ("100m", "100m"), ("1024Mi", "1Gi"), ("1e3", "1k"), ('"2"', "2")],
)
def test_quantities_may_be_numbers_or_text(written: str, stored: str) -> None:
    assert spec_of(f"overhead: {{cpu: {written}}}").overhead["cpu"].string == stored


def test_anchors_and_merges_work() -> None:
    [document] = load("""
        apiVersion: v1
        kind: ConfigMap
        data: {a: &text hello, b: *text}
        metadata:
          labels: &labels {app: web, tier: front}
          annotations: {<<: *labels, tier: back}
    """)
    config_map = document.message()
    assert config_map.data == {"a": "hello", "b": "hello"}
    assert config_map.metadata.annotations == {"app": "web", "tier": "back"}


def test_a_status_in_a_manifest_is_not_looked_at() -> None:
    [document] = load("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nstatus: {unknownThing: 1, phase: Running}")
    assert document.message().status == v1.PodStatus()
    with pytest.raises(Invalid):
        manifest.from_tree(document.kind, document.tree)


def test_every_wrong_field_is_named_with_its_line() -> None:
    assert errors_of("""\
        apiVersion: v1
        kind: Pod
        metadata: {name: 3, label: {a: b}}
        spec:
          restart_policy: Always
          containers:
          - name: web
            imagee: nginx
            ports: 80
            command: sh
            stdin: "true"
            env: [{name: A, value: yes}, null]
            livenessProbe:
              periodSeconds: "3"
              httpGet: {port: 1.5}
            resources: {limits: {cpu: 1z}}
          terminationGracePeriodSeconds: 99999999999999999999
          nodeSelector: [a]
    """) == {
        "metadata.name": 'must be text, not the number 3: quote it ("3") (web.yaml:3)',
        "metadata.label": 'unknown field; did you mean "labels"? (web.yaml:3)',
        "spec.restart_policy": 'unknown field; did you mean "restartPolicy"? (web.yaml:5)',
        "spec.containers[0].imagee": 'unknown field; did you mean "image"? (web.yaml:8)',
        "spec.containers[0].ports": 'must be a list, not the number 80: begin each item with "- " (web.yaml:9)',
        "spec.containers[0].command": 'must be a list, not the text "sh": begin each item with "- " (web.yaml:10)',
        "spec.containers[0].stdin": 'must be true or false, not the text "true": remove the quotes (web.yaml:11)',
        "spec.containers[0].env[0].value": 'must be text, not the boolean true: quote it ("true") (web.yaml:12)',
        "spec.containers[0].env[1]": "must not be null: give the item a value, or remove it (web.yaml:12)",
        "spec.containers[0].livenessProbe.periodSeconds": (
            'must be a whole number, not the text "3": remove the quotes (web.yaml:14)'
        ),
        "spec.containers[0].livenessProbe.httpGet.port": (
            "must be a whole number or text, not the number 1.5 (web.yaml:15)"
        ),
        "spec.containers[0].resources.limits[cpu]": (
            '"1z" is not a quantity: write a number with a suffix as in 100m, 1.5, 512Mi or 2G (web.yaml:16)'
        ),
        "spec.terminationGracePeriodSeconds": (
            "must be between -9223372036854775808 and 9223372036854775807, not 99999999999999999999 (web.yaml:17)"
        ),
        "spec.nodeSelector": "must be a mapping, not a list: write key: value (web.yaml:18)",
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "did not find expected node content (line 2, column 1)"),
        ("a: 1\nb: 2\na: 3", 'web.yaml:3: the key "a" is there twice, first on line 1'),
        ('{"a": 1, "a": 2}', 'the key "a" is there twice'),
        ("a: b: c", "web.yaml:1: not valid YAML: mapping values are not allowed in this context"),
        ("a:\n\t- b", "web.yaml:2: not valid YAML"),
        ("a: \x00", "web.yaml:1: not valid YAML"),
        ("a: *b", 'web.yaml:1: no anchor "&b" comes before this alias'),
        ("a: &a [*a]", "no anchor"),
        ("a: !!python/object/apply:os.system [ls]", 'the tag "python/object/apply:os.system" has no meaning'),
        ("a: !!python/name:os.system x", 'the tag "python/name:os.system" has no meaning'),
        ("[" * 100_000, "web.yaml:1: nested deeper than 100 levels"),
        ('{"a":' * 100_000, "nested deeper than 100 levels"),
        ("? [a]\n: b", "web.yaml:1: a key must be text"),
        ("just text", "must be a mapping with apiVersion, kind and metadata"),
        ("metadata: {name: a}", "web.yaml:1: kind is missing"),
        ("kind: Pod", "apiVersion is missing: write apiVersion: v1 for a Pod"),
        ("kind: Podd\napiVersion: v1", 'unknown kind "Podd"; did you mean "Pod"? (known: ConfigMap, Deployment,'),
        ("kind: Deployment\napiVersion: v1", 'unknown apiVersion "v1" for a Deployment: write apps/v1'),
        ("kind: 3\napiVersion: v1", "kind is missing"),
        ("kind: Secret\napiVersion: v1\ndata: {a: hello}", "data[a]: is not base64"),
        ("kind: Event\napiVersion: v1\nfirstTimestamp: soon", "must be a time as in 2006-01-02T15:04:05Z"),
        ("kind: Pod\napiVersion: v1\nspec: [a]", "spec: must be a mapping, not a list"),
        ('{"kind": "ConfigMap", "apiVersion": "v1", "data": {"a": "\\ud800"}}', "half of a surrogate pair"),
    ],
)
def test_what_is_wrong_is_said(text: str, says: str) -> None:
    assert says in problem(text)


def test_the_kinds_of_all_documents_are_checked_before_anything_is_done() -> None:
    said = problem("kind: Podd\napiVersion: v1\n---\nkind: Pod\napiVersion: v1\n---\nkind: Pod")
    assert "web.yaml:1: unknown kind" in said
    assert "web.yaml:7: apiVersion is missing" in said


def test_aliases_that_multiply_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "aliases make this larger than 1000000 values" in problem("\n".join(lines))


def test_a_servers_errors_get_the_lines_of_the_manifest() -> None:
    [document] = load(POD)
    located = document.located(
        Invalid("no", [FieldError("spec.containers[0].image", "bad"), FieldError("spec.containers[0].name.x", "bad")])
    )
    assert [error.message for error in located.errors] == ["bad (web.yaml:12)", "bad (web.yaml:11)"]
    assert 'web.yaml:2: Pod "probed" is invalid' in str(located)


@settings(max_examples=300, deadline=None)
@given(
    at=st.integers(0, len(POD)), cut=st.integers(0, 6), text=st.text("{}[]:-&*<>!|?'\"%#~\n\t 0aé\u2028", max_size=4)
)
def test_a_damaged_manifest_is_read_or_refused_and_nothing_else(at: int, cut: int, text: str) -> None:
    try:
        for document in manifest.load(POD[:at] + text + POD[at + cut :], "web.yaml"):
            document.message()
    except Invalid as error:
        assert str(error)
