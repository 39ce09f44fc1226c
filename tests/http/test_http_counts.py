"""Counters that workers share: they add up, and a worker's death takes nothing from them."""

from holdfast.http.counts import CONNECTIONS, RECEIVED, SENT, SLOTS_MAX, UNHEALTHY, Counts, Tally


def test_what_the_workers_count_is_added_up() -> None:
    tally = Tally(3)
    for number in range(3):
        counts = Counts(tally, number)
        for _ in range(number + 1):
            counts.add("blob", "GET", 200, 10)
        counts.add("blob", "PUT", 201 + number, 1)
        counts.receive(100)
        counts.connect()
    sums = tally.sums()
    assert sums.requests == {
        ("blob", "GET", 200): 6,
        ("blob", "PUT", 201): 1,
        ("blob", "PUT", 202): 1,
        ("blob", "PUT", 203): 1,
    }
    assert [sums.numbers[at] for at in (RECEIVED, SENT, CONNECTIONS)] == [300, 63, 3]


def test_a_worker_goes_on_where_the_one_before_it_died() -> None:
    tally = Tally(2)
    other = Counts(tally, 1)
    other.add("blob", "GET", 200, 1)
    counts = Counts(tally, 0)
    for _ in range(3):
        counts = Counts(tally, 0)
        assert counts.connect() == 0
        counts.add("blob", "GET", 200, 1)
        counts.report({"batches": 5}, healthy=False)
        counts.report({"batches": 7}, healthy=False)
    sums = tally.sums()
    assert sums.requests == {("blob", "GET", 200): 4}
    assert sums.facts == {"batches": 21}
    assert (sums.numbers[CONNECTIONS], sums.numbers[UNHEALTHY]) == (1, 1)
    assert other.connect() == 1
    counts.disconnect()
    assert other.connect() == 0
    Counts(tally, 0)
    assert tally.sums().numbers[UNHEALTHY] == 0


def test_an_older_report_takes_nothing_back() -> None:
    tally = Tally()
    counts = Counts(tally)
    counts.report({"jobs": 9}, healthy=True)
    counts.report({"jobs": 8}, healthy=True)
    assert tally.sums().facts == {"jobs": 9}


def test_more_kinds_of_requests_than_there_are_slots_are_counted_as_others() -> None:
    tally = Tally()
    for _ in range(2):
        counts = Counts(tally)
        for number in range(SLOTS_MAX + 10):
            counts.add("cold", f"M{number}", 404, 0)
        counts.add("cold", "M" * 100, 404, 0)
    requests = tally.sums().requests
    assert len(requests) == SLOTS_MAX
    assert requests["cold", "M0", 404] == 2
    assert requests["other", "other", 0] == 2 * 12
