"""Scripts for iptables-restore: what they say, in which order, and that what is read back is what was written."""

from nodeagent.proxy.difference import (
    Change,
    Present,
    between,
    connection,
    foundation,
    in_pieces,
    join,
    leftovers,
    parse,
    removal,
    script,
)
from nodeagent.proxy.rules import NODE_PORTS, REJECT, SERVICES, Chain, Entry, Facts, Rules, fixed_chains, jumps

FACTS = Facts("node1", "10.244.0.0/16")
FIXED = fixed_chains(FACTS)
SVC, SEP, OLD = (Chain("nat", f"PODWIRE-{name}") for name in ("SVC-A", "SEP-B", "SEP-C"))
TO_SERVICE = Entry(SERVICES, "-d 10.96.0.10/32 -j PODWIRE-SVC-A")
REFUSAL = Entry(REJECT, "-d 10.96.0.10/32 -j REJECT")
SERVED = Rules({SVC: ("-j PODWIRE-SEP-B",), SEP: ("-j DNAT",)}, frozenset({TO_SERVICE}))
REFUSED = Rules({}, frozenset({REFUSAL}))
EMPTY = Present({}, (), ())


def lines(text: str) -> list[str]:
    return text.splitlines()


def test_no_difference_is_no_change() -> None:
    assert not between(SERVED, SERVED)
    assert script(between(SERVED, SERVED)) == ""


def test_leaves_are_written_before_the_entry_that_leads_to_them() -> None:
    assert lines(script(between(Rules(), SERVED))) == [
        "*nat",
        ":PODWIRE-SVC-A - [0:0]",
        ":PODWIRE-SEP-B - [0:0]",
        "-A PODWIRE-SVC-A -j PODWIRE-SEP-B",
        "-A PODWIRE-SEP-B -j DNAT",
        "-A PODWIRE-SERVICES -d 10.96.0.10/32 -j PODWIRE-SVC-A",
        "COMMIT",
    ]


def test_a_change_of_one_leaf_names_only_that_leaf() -> None:
    moved = Rules({**SERVED.leaves, SEP: ("-j DNAT elsewhere",)}, SERVED.entries)
    assert lines(script(between(SERVED, moved))) == [
        "*nat",
        ":PODWIRE-SEP-B - [0:0]",
        "-A PODWIRE-SEP-B -j DNAT elsewhere",
        "COMMIT",
    ]


def test_leaves_go_after_the_entry_and_in_the_order_of_their_references() -> None:
    assert lines(script(between(SERVED, Rules())))[-4:] == [
        "-D PODWIRE-SERVICES -d 10.96.0.10/32 -j PODWIRE-SVC-A",
        "-X PODWIRE-SVC-A",
        "-X PODWIRE-SEP-B",
        "COMMIT",
    ]


def test_a_service_that_loses_its_last_endpoint_is_refused_before_it_stops_being_translated() -> None:
    text = script(between(SERVED, REFUSED))
    assert text.index("-A PODWIRE-REJECT") < text.index("-D PODWIRE-SERVICES")


def test_a_service_that_gets_an_endpoint_is_translated_before_it_stops_being_refused() -> None:
    text = script(between(REFUSED, SERVED))
    assert text.index("-A PODWIRE-SERVICES") < text.index("-D PODWIRE-REJECT")


def test_changes_of_several_services_are_joined_into_one_transaction() -> None:
    other = Rules({OLD: ("-j DNAT",)}, frozenset({Entry(NODE_PORTS, "-p tcp -j PODWIRE-SEP-C")}))
    text = script(join([between(Rules(), SERVED), between(Rules(), other)]))
    assert text.count("COMMIT") == 1
    assert "PODWIRE-SVC-A" in text
    assert "PODWIRE-SEP-C" in text


def test_pieces_have_at_most_their_size() -> None:
    assert list(in_pieces(range(5), 2)) == [[0, 1], [2, 3], [4]]


def saved(rules: Rules) -> dict[str, str]:
    """What iptables-save prints when everything of ours is there, between rules of others."""
    nat, filters = [":PREROUTING ACCEPT [0:0]", ":DOCKER - [0:0]"], [":FORWARD ACCEPT [0:0]"]
    tables = {"nat": nat, "filter": filters}
    chains = {**FIXED, **rules.leaves, **dict.fromkeys((SERVICES, NODE_PORTS, REJECT), ())}
    for chain in chains:
        tables[chain.table].append(f":{chain.name} - [0:0]")
    nat += ["-A PREROUTING -j DOCKER", "-A DOCKER -p tcp -j DNAT --to-destination 172.17.0.2:80"]
    for entry in (*jumps(FACTS), *rules.entries):
        tables[entry.chain.table].append(f"-A {entry.chain.name} {entry.rule}")
    for chain, content in chains.items():
        tables[chain.table] += [f"-A {chain.name} {rule}" for rule in content]
    return {table: "\n".join([f"*{table}", *text, "COMMIT", ""]) for table, text in tables.items()}


def test_what_is_all_there_needs_no_script() -> None:
    present = parse(saved(SERVED), FIXED)
    assert foundation(present, FIXED) == ""
    assert connection(present, jumps(FACTS)) == ""
    assert list(leftovers(present, SERVED)) == []
    assert present.leaves() == SERVED.leaves
    assert set(present.entries) == SERVED.entries


def test_an_empty_kernel_gets_chains_first_and_ways_into_them_last() -> None:
    made = foundation(EMPTY, FIXED)
    for shared in (SERVICES, NODE_PORTS, REJECT):
        assert f":{shared.name} - [0:0]" in made
    led = connection(EMPTY, jumps(FACTS))
    assert led.count("-I ") == len(jumps(FACTS))
    assert "-A " not in led


def test_shared_chains_that_are_there_are_not_declared_again_since_that_would_empty_them() -> None:
    present = parse({"nat": ":PODWIRE-SERVICES - [0:0]\n", "filter": ""}, FIXED)
    assert ":PODWIRE-SERVICES" not in foundation(present, FIXED)


def test_a_way_that_is_there_twice_is_taken_away_once() -> None:
    way = jumps(FACTS)[0]
    present = Present({}, (), (way, way))
    assert connection(present, [way]).count(f"-D {way.chain.name} {way.rule}") == 1


def test_what_no_service_needs_any_more_is_left_over() -> None:
    stale = Rules({**SERVED.leaves, OLD: ("-j DNAT",)}, SERVED.entries | {REFUSAL})
    text = "".join(leftovers(parse(saved(stale), FIXED), SERVED))
    assert f"-D PODWIRE-REJECT {REFUSAL.rule}" in text
    assert "-X PODWIRE-SEP-C" in text
    assert "PODWIRE-SVC-A" not in text


def test_an_entry_that_is_there_twice_is_deleted_once() -> None:
    present = Present({SERVICES: ()}, (TO_SERVICE, TO_SERVICE), ())
    assert "".join(leftovers(present, SERVED)).count("-D ") == 1


def test_removal_takes_the_ways_first_and_everything_of_ours_but_nothing_of_others() -> None:
    pieces = list(removal(parse(saved(SERVED), FIXED)))
    assert all(line.startswith(("*", "-D", "COMMIT")) for line in lines(pieces[0]))
    text = "".join(pieces)
    for chain in (*FIXED, *SERVED.leaves, SERVICES, NODE_PORTS, REJECT):
        assert f"-X {chain.name}" in text
    assert "DOCKER" not in text


def test_an_empty_change_is_false() -> None:
    assert not Change()
