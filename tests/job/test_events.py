"""The event log: one JSON line an event, run and row on each, and listeners."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rramhil.job.events import hear, open_log


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_line_carries_run_row_time_and_data(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = open_log(path, "run-1")
    log.info("step finished", row=41, step="scan", yield_share=np.float32(0.5))
    log.warning("ideal mapping is far", row=42, loss=float("nan"))
    log.error("link lost", row=43, cells=np.arange(2), path=path)
    log.close()
    first, second, third = lines(path)
    assert list(first)[:5] == ["time", "level", "event", "run", "row"]
    assert first["time"].endswith("Z")
    assert (first["run"], first["row"], first["level"]) == ("run-1", 41, "info")
    assert (first["step"], first["yield_share"]) == ("scan", 0.5)
    assert (second["level"], second["loss"]) == ("warning", None)
    assert (third["level"], third["path"]) == ("error", str(path))


def test_a_line_cut_by_a_kill_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event": "whole"}\n{"event": "cu')
    log = open_log(path, "r")
    log.info("after", row=1)
    log.close()
    log.close()
    assert [json.loads(text)["event"] for text in path.read_text().splitlines()[::2]] == [
        "whole",
        "after",
    ]


def test_a_log_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for row in (1, 2):
        log = open_log(path, "r")
        log.info("opened", row=row)
        log.close()
    assert [line["row"] for line in lines(path)] == [1, 2]


def test_a_listener_hears_within_its_block_only(tmp_path: Path) -> None:
    heard: list[Any] = []
    log = open_log(tmp_path / "events.jsonl", "r")
    log.info("before", row=1)
    with hear(heard.append):
        log.info("within", row=2, step="scan")
    log.info("after", row=3)
    log.close()
    assert [(event["event"], event["row"]) for event in heard] == [("within", 2)]


def test_an_event_without_a_row_is_no_event(tmp_path: Path) -> None:
    log = open_log(tmp_path / "events.jsonl", "r")
    with pytest.raises(TypeError):
        log.info("rowless")  # type: ignore[call-arg]
    log.close()
