from server.limits import Buckets


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_a_burst_passes_and_then_one_at_a_time():
    clock = Clock()
    buckets = Buckets(clock)
    assert [buckets.take("a", rate=2, burst=3) for _ in range(4)] == [0, 0, 0, 0.5]
    clock.now = 0.25
    assert buckets.take("a", rate=2, burst=3) == 0.25
    clock.now = 0.5
    assert buckets.take("a", rate=2, burst=3) == 0
    assert buckets.take("a", rate=2, burst=3) == 0.5


def test_a_bucket_holds_no_more_than_its_burst():
    clock = Clock()
    buckets = Buckets(clock)
    buckets.take("a", rate=1, burst=2)
    clock.now = 1000.0
    assert [buckets.take("a", rate=1, burst=2) for _ in range(3)] == [0, 0, 1]


def test_buckets_are_apart_and_the_longest_unused_is_forgotten():
    buckets = Buckets(Clock(), limit=2)
    assert buckets.take("a", rate=1, burst=1) == 0
    assert buckets.take("b", rate=1, burst=1) == 0
    assert buckets.take("a", rate=1, burst=1) == 1
    assert buckets.take("c", rate=1, burst=1) == 0
    assert len(buckets) == 2
    assert buckets.take("a", rate=1, burst=1) == 1
    assert buckets.take("b", rate=1, burst=1) == 0
