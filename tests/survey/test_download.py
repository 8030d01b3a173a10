import pytest

from appulse.survey.download import Downloader, ServiceError

LIMIT = 1_000_000


@pytest.fixture
def downloader():
    return Downloader(1e6, attempts=4, timeout=0.5, deadline=0.5, backoff=0.001)


def _url(sky, ra=10.0):
    return f"{sky.url}/viewer/fits-cutout?ra={ra}&dec=0&size=16&bands=grz&pixscale=0.262"


def test_a_good_answer_comes_at_once(sky, downloader):
    assert downloader.get(_url(sky), LIMIT).startswith(b"SIMPLE  =")
    assert len(sky.asked) == 1


@pytest.mark.parametrize(
    "faults", [["500", "500"], ["503", "502", "504"], ["truncated"], ["hang"], ["drip"], ["429"]]
)
def test_what_passes_is_asked_for_again(sky, downloader, faults):
    sky.faults[10.0] = list(faults)
    whole = downloader.get(_url(sky), LIMIT)
    assert len(whole) == 2880 * 3
    assert len(sky.asked) == len(faults) + 1


@pytest.mark.parametrize("fault", ["500", "truncated", "hang", "drip"])
def test_what_does_not_pass_ends(sky, downloader, fault):
    sky.faults[10.0] = [fault] * 9
    with pytest.raises(ServiceError, match=r"failed every time, at last with: "):
        downloader.get(_url(sky), LIMIT)
    assert len(sky.asked) == 4


def test_faults_of_all_kinds_share_the_attempts(sky, downloader):
    sky.faults[10.0] = ["500", "truncated", "hang", "500", "500"]
    with pytest.raises(ServiceError):
        downloader.get(_url(sky), LIMIT)
    assert len(sky.asked) == 4


def test_the_service_says_how_long_to_wait(sky, downloader):
    sky.faults[10.0] = ["patience"]
    downloader.get(_url(sky), LIMIT)
    (first, _), (second, _) = sky.asked
    assert second - first >= 1


def test_waits_grow(sky):
    sky.faults[10.0] = ["500"] * 3
    Downloader(1e6, attempts=4, timeout=5.0, backoff=0.2).get(_url(sky), LIMIT)
    times = [time for time, _ in sky.asked]
    assert times[2] - times[1] >= 0.4
    assert times[3] - times[2] >= 0.8


def test_requests_keep_the_rate(sky):
    downloader = Downloader(10.0)
    for _ in range(4):
        downloader.get(_url(sky), LIMIT)
    times = [time for time, _ in sky.asked]
    assert times[3] - times[0] >= 0.25  # some of 0.3 s may pass before the server looks


@pytest.mark.parametrize("status", ["400", "403", "404"])
def test_a_refusal_is_final(sky, downloader, status):
    sky.faults[10.0] = [status]
    with pytest.raises(ValueError, match=f"answered {status}"):
        downloader.get(_url(sky), LIMIT)
    assert len(sky.asked) == 1


def test_no_more_is_taken_than_allowed(sky, downloader):
    sky.faults[10.0] = ["huge"]
    with pytest.raises(ValueError, match="sends more than 1,000,000 bytes"):
        downloader.get(_url(sky), LIMIT)
    assert len(sky.asked) == 1


def test_nobody_there(downloader):
    with pytest.raises(ServiceError, match="failed every time"):
        downloader.get("http://127.0.0.1:9/", LIMIT)


def test_a_rate_of_nothing():
    with pytest.raises(ValueError, match=r"rate is 0\.0; expected requests per second above 0"):
        Downloader(0.0)
