"""/etc/hosts and /etc/resolv.conf of pods."""

from nodeagent.sandboxes import files
from podwire import v1


def pod(**spec: object) -> v1.Pod:
    return v1.Pod(metadata=v1.ObjectMeta(name="web"), spec=v1.PodSpec(**spec))  # type: ignore[arg-type]


def test_a_host_name_is_the_pods_cut_to_what_dns_allows() -> None:
    assert files.hostname(pod()) == "web"
    assert files.hostname(pod(hostname="other")) == "other"
    long = v1.Pod(metadata=v1.ObjectMeta(name="a" * 62 + "-b"))
    assert files.hostname(long) == "a" * 62


def test_hosts_names_the_pod_by_all_its_addresses() -> None:
    text = files.hosts(pod(), ("10.1.1.1", "fd00::1"), "")
    assert "10.1.1.1\tweb\n" in text and "fd00::1\tweb\n" in text and "127.0.0.1\tlocalhost\n" in text


def test_hosts_of_a_pod_on_the_hosts_network_is_the_nodes_with_its_aliases() -> None:
    aliases = [v1.HostAlias(ip="1.2.3.4", hostnames=["a", "b"])]
    text = files.hosts(pod(host_network=True, host_aliases=aliases), (), "9.9.9.9\tnode\n")
    assert "9.9.9.9\tnode\n" in text and "1.2.3.4\ta\tb\n" in text


NODE = "# made by hand\nnameserver 10.0.0.1\nsearch a.example\noptions ndots:1 edns0\n"


def test_names_are_resolved_as_on_the_node() -> None:
    assert files.resolv_conf(pod(), NODE) == "nameserver 10.0.0.1\nsearch a.example\noptions ndots:1 edns0\n"


def test_a_dns_config_adds_to_the_nodes() -> None:
    config = v1.PodDNSConfig(
        nameservers=["10.0.0.2", "10.0.0.1"],
        searches=["b.example"],
        options=[v1.PodDNSConfigOption(name="ndots", value="5"), v1.PodDNSConfigOption(name="rotate")],
    )
    assert files.resolv_conf(pod(dns_config=config), NODE) == (
        "nameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch a.example b.example\noptions edns0 ndots:5 rotate\n"
    )


def test_with_the_policy_none_only_the_dns_config_counts() -> None:
    config = v1.PodDNSConfig(nameservers=["10.96.0.10"])
    assert files.resolv_conf(pod(dns_policy="None", dns_config=config), NODE) == "nameserver 10.96.0.10\n"


def test_no_more_nameservers_are_given_than_the_c_library_reads() -> None:
    config = v1.PodDNSConfig(nameservers=[f"10.0.0.{number}" for number in range(5)])
    assert files.resolv_conf(pod(dns_policy="None", dns_config=config), "").count("nameserver") == 3
