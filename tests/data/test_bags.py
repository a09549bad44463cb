"""ROS bags and foreign MCAP files: clocks, lag, resampling and cuts against what the bags were made with."""

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from robot_rl.cli import main
from robot_rl.data.bags.clocks import align
from robot_rl.data.bags.mapping import load_topic_map
from robot_rl.data.bags.recording import open_recording, require_topics
from robot_rl.data.dataset import load_dataset
from robot_rl.data.formats.bag import read_bag
from robot_rl.data.formats.log import ImportedLog, ReadOptions
from robot_rl.data.formats.registry import detect, open_log
from robot_rl.errors import ConfigError, DataError, RobotRLError
from tests.data.made import SHARED
from tests.data.made_bags import Arm, nanos, write_bag, write_json_mcap, write_mapping

pytest.importorskip("rosbags", reason="the extra 'formats' is not installed")


def read(tmp_path: Path, bag: Path, **mapping: Any) -> ImportedLog:
    return read_bag(bag, ReadOptions(topics=write_mapping(tmp_path / "topics.yaml", **mapping)))


def noted(log: ImportedLog, pattern: str) -> re.Match[str]:
    found = [m for note in log.notes if (m := re.search(pattern, note))]
    assert found, log.notes
    return found[0]


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_a_bag_becomes_one_episode_of_named_joints(storage: str, tmp_path: Path) -> None:
    arm = Arm(seconds=5.0)
    bag = write_bag(tmp_path / "bag", arm, storage=storage)
    assert detect(bag) == "bag"
    log = read(tmp_path, bag)
    episode = next(log.episodes)
    assert (log.count, log.spec.rate_hz, log.spec.control) == (1, 20.0, "joint_position")
    assert log.spec.obs_names == ["joint_pos/a", "joint_pos/b"]  # the bag says b, a
    assert episode.timestamps is not None
    assert np.allclose(np.diff(episode.timestamps), 0.05)
    for row, time in enumerate(episode.timestamps[:-1]):
        command = int(np.searchsorted(arm.command_times, time + 0.0021, "right")) - 1  # time 0 is the first message
        assert np.abs(episode.actions[row] - arm.commands[command]).max() < 1e-5
    assert (episode.truncated, episode.terminated) == (True, False)


@pytest.mark.parametrize("lag_s", [0.0, 0.08, 0.25])
def test_the_lag_is_found(lag_s: float, tmp_path: Path) -> None:
    log = read(tmp_path, write_bag(tmp_path / "bag", Arm(lag_s=lag_s)))
    found = float(noted(log, r"show in the observations after (-?[\d.]+) s")[1])
    assert found == pytest.approx(lag_s + 0.02, abs=0.015)  # the arm itself takes 20 ms


def test_the_lag_of_a_recording_is_corrected(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", Arm(lag_s=0.25))
    log = read(tmp_path, bag, lag_s=0.27)
    found = noted(log, r"after (-?[\d.]+) s, .* \(with lag_s: 0.27 applied\)")
    assert float(found[1]) == pytest.approx(0.0, abs=0.015)
    plain, moved = next(read(tmp_path, bag).episodes), next(log.episodes)
    assert (
        np.abs(moved.actions - moved.observations[:-1]).mean()
        < 0.5 * np.abs(plain.actions - plain.observations[:-1]).mean()
    )


@pytest.mark.parametrize(
    ("clock_s", "drift", "word"), [(3.2, 0.0, "ahead of"), (-7200.0, 0.0, "behind"), (50.0, 1e-3, "ahead")]
)
def test_another_computers_clock_is_aligned(clock_s: float, drift: float, word: str, tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", Arm(clock_s=clock_s, drift=drift))
    log = read(tmp_path, bag, **{"observation.joint_pos.clock": "header"})
    found = noted(log, rf"stamps are ([\d.]+) s {word}.*another clock, aligned by the shortest delay")
    assert float(found[1]) == pytest.approx(abs(clock_s), abs=0.03)
    if drift:
        assert float(noted(log, r"drifting by ([+-]\d+) ppm")[1]) == pytest.approx(-1e6 * drift, rel=0.02)
    truth = read(tmp_path, write_bag(tmp_path / "true", Arm()), **{"observation.joint_pos.clock": "header"})
    one, two = next(log.episodes), next(truth.episodes)
    rows = min(len(one), len(two))
    assert (
        np.abs(one.observations[:rows] - two.observations[:rows]).mean() < 0.06
    )  # moved by the 2 ms of transport alone
    assert float(noted(log, r"after (-?[\d.]+) s")[1]) == pytest.approx(0.14, abs=0.02)


def test_a_clock_that_is_the_recorders_own_is_left_alone(tmp_path: Path) -> None:
    log = read(tmp_path, write_bag(tmp_path / "bag", Arm(delay_s=0.03)), **{"observation.joint_pos.clock": "header"})
    assert not any("clock" in note for note in log.notes)


def test_a_jump_of_a_clock_is_said_and_mended(tmp_path: Path) -> None:
    def jump(topic: str, message: Any) -> Any:
        if topic == "/joint_states" and message.header.stamp.sec >= nanos(10.0) // 10**9:
            message.header.stamp.__dict__["sec"] += 60
        return message

    log = read(tmp_path, write_bag(tmp_path / "bag", Arm(), change=jump), **{"observation.joint_pos.clock": "header"})
    assert float(
        noted(log, r"jump by ([+-][\d.]+) s against the recorder's clock at message 1000")[1]
    ) == pytest.approx(60, abs=0.02)
    assert float(noted(log, r"after (-?[\d.]+) s")[1]) == pytest.approx(0.14, abs=0.02)


def test_a_small_jump_is_mended_though_the_delay_could_be_a_networks() -> None:
    log = np.arange(400) / 100.0
    stamp = log - 0.02
    stamp[200:] -= 0.3
    found = align(log, stamp, None, "/joint_states")
    np.testing.assert_allclose(found.times, log - 0.02, atol=1e-9)
    assert any("jump by -0.300 s" in note for note in found.notes)


def test_stamps_that_run_back_or_stand_are_said(tmp_path: Path) -> None:
    def spoil(topic: str, message: Any) -> Any:
        if topic == "/joint_states" and message.header.stamp.nanosec % 10**9 == 500_000_000:
            message.header.stamp.__dict__["nanosec"] -= 20_000_000
        return message

    log = read(
        tmp_path, write_bag(tmp_path / "bag", Arm(seconds=5), change=spoil), **{"observation.joint_pos.clock": "header"}
    )
    noted(log, r"stamps run back 5 times, first at message 50; sorted")
    noted(log, r"5 of 500 messages repeat a stamp")


def test_a_stamp_of_zero_makes_no_endless_grid(tmp_path: Path) -> None:
    def forget(topic: str, message: Any) -> Any:
        if topic == "/joint_states" and message.header.stamp.nanosec == 500_000_000:
            message.header.stamp.__dict__["sec"] = 0
        return message

    exact = {"clock": "header", "offset_s": 0.0}
    changes = {f"observation.joint_pos.{key}": value for key, value in exact.items()}
    changes["action"] = {"targets": {"topic": "/joint_states", "field": "position", **exact}}
    with pytest.raises(DataError, match=r"steps at 20 Hz; at most .* Is a stamp 0\? Take the recorder's times"):
        read(tmp_path, write_bag(tmp_path / "bag", Arm(seconds=5), change=forget), **changes)


def test_values_too_old_make_no_step(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", Arm(), silent=lambda t: 8.0 < t < 11.0)
    log = read(tmp_path, bag)
    first, second = log.episodes
    assert first.timestamps is not None
    assert second.timestamps is not None
    assert first.timestamps[-1] == pytest.approx(8.2, abs=0.06)  # 0.25 s is the age that still counts
    assert second.timestamps[0] >= 11.0 - 0.01
    noted(log, r"action.targets \(/command\) has no value within 0.25 s at \d+ of 240 steps, first at 8\.[23]")
    with pytest.raises(DataError, match=r"no value within 0.25 s.*Raise its max_age_s, or set on_stale: cut"):
        read(tmp_path, bag, on_stale="error")
    held = read(tmp_path, bag, max_age_s=float("inf"))
    assert held.count == 1


def test_gaps_split_episodes(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", Arm(), silent=lambda t: 5 < t < 8 or 9 < t < 9.2)
    assert read(tmp_path, bag, episodes={"split": "gap", "gap_s": 1.0}).count == 2


def test_a_marker_topic_splits_and_labels(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", Arm(), marks=[(2.0, True), (6.0, False), (8.0, True), (11.0, False)])
    cuts = {"split": "marker", "topic": "/episode", "begin": [True], "end": [], "success": [False]}
    episodes = list(read(tmp_path, bag, episodes=cuts).episodes)
    assert [len(e) for e in episodes] == [pytest.approx(80, abs=1), pytest.approx(60, abs=1)]
    assert [e.success for e in episodes] == [True, True]


def test_only_the_last_piece_before_the_marker_has_its_label(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", Arm(), marks=[(2.0, True), (9.0, False)], silent=lambda t: 4.0 < t < 6.0)
    cuts = {"split": "marker", "topic": "/episode", "begin": [True], "end": [], "success": [False]}
    log = read(tmp_path, bag, episodes=cuts)
    assert [e.success for e in log.episodes] == [None, True]  # the first stops 5 s before the success
    noted(log, r"1 pieces ahead of such a cut are not labelled")


def test_a_folder_of_bags_gives_the_episodes_of_all(tmp_path: Path) -> None:
    for i in range(3):
        write_bag(tmp_path / "bags" / f"take_{i}", Arm(seconds=3.0 + i, seed=i), storage=("mcap", "sqlite3")[i % 2])
    log = read(tmp_path, tmp_path / "bags")
    assert [e.source.split(":")[0] for e in log.episodes] == ["take_0", "take_1", "take_2"]


def test_a_json_mcap_file_reads_like_the_bag(tmp_path: Path) -> None:
    arm = Arm(seconds=5.0)
    changes = {"observation.joint_pos": {"topic": "/state", "field": "q"}, "action.targets.field": "q"}
    json_log = read(tmp_path, write_json_mcap(tmp_path / "x.mcap", arm), **changes)
    ros_log = read(tmp_path, write_bag(tmp_path / "bag", arm))
    assert np.allclose(next(json_log.episodes).observations, next(ros_log.episodes).observations, atol=1e-6)


def test_a_cut_file_is_read_up_to_there_and_says_so(tmp_path: Path) -> None:
    path = write_json_mcap(tmp_path / "x.mcap", Arm())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * 0.8)])
    changes = {"observation.joint_pos": {"topic": "/state", "field": "q"}, "action.targets.field": "q"}
    log = read(tmp_path, path, **changes)
    assert 30 < len(next(log.episodes)) < 230
    noted(log, "cut or damaged")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no such topic": ({"action.targets.topic": "/comand"}, r"no topic '/comand'; there are: /command, /joint_states"),
    "no such field": ({"action.targets.field": "datum"}, r"no 'datum' in it; there is: layout, data"),
    "no such joint": ({"observation.joint_pos.joints": ["a", "c"]}, r"names b, a for 2 numbers; wanted a, c"),
    "text": ({"observation.joint_pos": {"topic": "/joint_states", "field": "name"}}, r"holds text, not numbers"),
    "empty field": ({"observation.joint_pos": {"topic": "/joint_states", "field": "effort"}}, "gives no number at all"),
    "wrong count of names": ({"action.targets.names": ["a"]}, r"gives 2 numbers, the mapping names 1: a"),
    "no stamp": ({"action.targets.clock": "header"}, r"no 'header' in it"),
    "bounds": ({"action.targets.low": [-1.0] * 3, "action.targets.high": [1.0] * 3}, "2 numbers, but 3 bounds"),
    "bad path": ({"action.targets.field": "data[0"}, "is no path"),
    "beyond the list": ({"action.targets.field": "data[7]"}, r"no element \[7\] in a list of 2"),
    "unknown key": ({"action.targets.topik": 1}, "unknown key 'topik'. Did you mean 'topic'"),
    "rate": ({"rate_hz": 0}, "rate_hz is 0; it must be above 0"),
    "endless rate": ({"rate_hz": float("inf")}, "rate_hz is inf; it must be above 0 and finite"),
    "two rewards": (
        {"reward": {"topic": "/command", "field": "data"}},
        r"reward: '/command' gives 2 numbers \(0, 1\), a step has one reward. Name one of them",
    ),
    "half a bound": ({"action.targets.low": []}, "0 values under low, 2 under high"),
    "rule": ({"action.targets.resample": "cubic"}, "Invalid enum value 'cubic'"),
    "no action": ({"action": {}}, "key 'action' must name at least one entry"),
    "marker without topic": ({"episodes": {"split": "marker"}}, "episodes.topic names no topic"),
    "one bound": ({"action.targets.high": [1.0]}, "2 values under low, 1 under high"),
    "too short": ({"episodes": {"min_steps": 1000}}, "gives no episode with this mapping: .*shorter than 1000 steps"),
    "slerp of two": ({"observation.joint_pos.resample": "slerp"}, "slerp needs 4 numbers"),
}


@pytest.fixture(scope="module")
def short_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bag(tmp_path_factory.mktemp("bag") / "bag", Arm(seconds=3.0))


@pytest.mark.parametrize("name", list(REFUSED))
def test_mappings_that_do_not_fit_are_refused_in_words(name: str, tmp_path: Path, short_bag: Path) -> None:
    changes, words = REFUSED[name]
    with pytest.raises(RobotRLError, match=words):
        read(tmp_path, short_bag, **changes)


def test_nan_in_a_message_is_refused_with_its_place(tmp_path: Path) -> None:
    def spoil(topic: str, message: Any) -> Any:
        if topic == "/command" and not seen.append(1) and len(seen) == 8:
            message.data[1] = np.nan
        return message

    seen: list[int] = []
    bag = write_bag(tmp_path / "bag", Arm(seconds=3.0), change=spoil)
    with pytest.raises(DataError, match=r"action.targets: message 7 of '/command'.*NaN or infinity"):
        read(tmp_path, bag)


def test_damaged_bags_are_refused_in_words(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", Arm(seconds=3.0))
    topics = write_mapping(tmp_path / "topics.yaml")
    meta = (bag / "metadata.yaml").read_text()
    for content in ("", "a: [", "rosbag2_bagfile_information: {}", meta.replace("sqlite3", "cassette")):
        (bag / "metadata.yaml").write_text(content)
        with pytest.raises(DataError, match=r"ROS bag \("):
            read_bag(bag, ReadOptions(topics=topics))
    (bag / "metadata.yaml").write_text(meta)
    (bag / "bag.db3").write_bytes((bag / "bag.db3").read_bytes()[:5000])
    with pytest.raises(DataError, match="ROS bag"):
        read_bag(bag, ReadOptions(topics=topics))
    (bag / "bag.db3").unlink()
    with pytest.raises(DataError, match=r"files are missing"):
        read_bag(bag, ReadOptions(topics=topics))


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_bags_spoilt_anywhere_are_refused_in_words_or_read(storage: str, tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", Arm(seconds=2.0), storage=storage)
    topics = write_mapping(tmp_path / "topics.yaml")
    file = next(f for f in bag.iterdir() if f.suffix in (".db3", ".mcap"))
    data = file.read_bytes()
    for at in range(0, len(data), len(data) // 40):  # a page that never reached the disk
        file.write_bytes(data[:at] + bytes(200) + data[at + 200 :])
        with contextlib.suppress(RobotRLError):
            read_bag(bag, ReadOptions(topics=topics))


def test_a_bag_packed_as_a_whole_and_spoilt_is_refused_in_words(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", Arm(seconds=2.0), packed=True)
    assert open_recording(bag).topics["/command"].count == 40
    file = next(bag.glob("*.zstd"))
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2].ljust(len(data), b"\0"))
    with pytest.raises(DataError, match=r"is a damaged ROS bag \(ZstdError"):
        open_recording(bag)


def test_metadata_that_counts_otherwise_is_said(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", Arm(seconds=3.0))
    meta = bag / "metadata.yaml"
    meta.write_text(meta.read_text().replace("message_count: 60", "message_count: 66"))
    noted(read(tmp_path, bag), r"'/command': the bag's metadata counts 66 messages, its files hold 60")


def test_the_command_writes_a_mapping_that_imports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = write_bag(tmp_path / "bag", Arm(seconds=5.0))
    file, out = tmp_path / "t.yaml", tmp_path / "d"
    assert main(["data", "import", str(bag), "--out", str(out)]) == 2
    assert "--write topics.yaml" in " ".join(capsys.readouterr().err.split())
    assert main(["data", "topics", str(bag), "--write", str(file), "--json"]) == 0
    listed = {t["name"]: t for t in json.loads(capsys.readouterr().out)["topics"]}
    assert (listed["/joint_states"]["count"], listed["/joint_states"]["joints"]) == (500, ["b", "a"])
    assert listed["/command"]["rate_hz"] == pytest.approx(20.0)
    assert main(["data", "topics", str(bag), "--write", str(file)]) == 2  # never overwritten
    assert main(["data", "import", str(bag), "--topics", str(file), "--out", str(out)]) == 0
    spec = load_dataset(out).spec
    assert (spec.obs_dim, spec.action_dim, spec.rate_hz) == (2, 2, 20.0)  # without the layout of the array
    assert load_topic_map(file).observation["joint_states_position"].joints == ("b", "a")
    with pytest.raises(ConfigError, match="Cannot read config"):
        load_topic_map(tmp_path / "none.yaml")


@pytest.mark.parametrize(("times", "rate_hz", "max_age_s"), [([0.0], 10.0, 0.25), ([0.0, 400.0], 0.0025, 2000.0)])
def test_topics_of_few_messages_are_listed_too(
    times: list[float], rate_hz: float, max_age_s: float, tmp_path: Path
) -> None:
    arm = Arm()
    arm.command_times = arm.state_times = np.array(times)
    arm.commands, arm.jitter = arm.commands[: len(times)], np.zeros(len(times))
    bag, file = write_bag(tmp_path / "bag", arm), tmp_path / "t.yaml"
    assert main(["data", "topics", str(bag), "--write", str(file)]) == 0
    written = yaml.safe_load(file.read_text())
    assert (written["rate_hz"], written["max_age_s"]) == (rate_hz, max_age_s)


conformance = SHARED / "mcap" / "mcap_conformance"


@pytest.mark.skipif(not conformance.is_dir(), reason="no MCAP conformance files at ../shared/data")
def test_every_conformance_file_is_refused_in_words() -> None:
    files = sorted(conformance.rglob("*.mcap"))
    assert len(files) > 200
    for file in files:
        assert detect(file) == "bag"
        with pytest.raises(DataError) as caught:
            require_topics(open_recording(file), ["example"])
        if file.read_bytes().startswith(b"version https://git-lfs"):
            wanted = "cannot be read as MCAP: not a valid MCAP file"
        elif file.name.startswith("NoData"):
            wanted = "no topic 'example'; there are: none at all"
        else:
            wanted = "topic 'example' cannot be read: messages are encoded as 'a' with schema '"
        assert wanted in str(caught.value), file
    with pytest.raises(DataError, match=r"is a recording of 1 topics.*data topics"):
        open_log(files[-1], "auto", ReadOptions())


@pytest.mark.skipif(not conformance.is_dir(), reason="no MCAP files at ../shared/data")
@pytest.mark.parametrize("bag", ["sqlite3/talker", "mcap/talker", "sqlite3/wbag", "mcap/wbag"])
def test_real_bags_give_every_message(bag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "topics", str(SHARED / "mcap" / "rosbag2" / bag), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    count = sum(t["count"] for t in listed["topics"])
    assert count == (20 if "talker" in bag else 6074)
    assert all(t["rate_hz"] > 0 for t in listed["topics"] if t["count"] and "rosout" not in t["name"])


@pytest.mark.skipif(not conformance.is_dir(), reason="no MCAP files at ../shared/data")
def test_a_real_ros_recording_imports(tmp_path: Path) -> None:
    file = SHARED / "mcap" / "rerun" / "rosbag2_2025_09_10-13_03_56_0.mcap"
    changes = {
        "rate_hz": 5,
        "max_age_s": 1.0,
        "observation.joint_pos": {"topic": "/joint_state", "field": "position", "unit": "rad"},
        "action.targets": {"topic": "/range", "field": "range", "unit": "m"},
    }
    log = read(tmp_path, file, **changes)
    assert log.count >= 1
    assert log.spec.obs_dim == 4
    noted(log, "action.targets has no bounds in the mapping")
