import json

import pytest
import torch

from fcos_kernels.aot import targets as aot
from fcos_kernels.bench import __main__ as command
from fcos_kernels.bench import eager, problems, table, timing

CPU = torch.device("cpu")


@pytest.fixture
def small(monkeypatch):
    """One small size, and a copy that is quick to measure."""
    size = problems.Size("small", 2, 96, 128, 3)
    monkeypatch.setattr(problems, "sizes", lambda device: [size, size])
    monkeypatch.setitem(timing.COPY_BYTES, "cpu", 1 << 16)
    return size


def run(*arguments):
    return command.main(["--device", "cpu", "--seconds", "0.01", *arguments])


def test_every_op_is_right_and_timed(small, tmp_path, capsys):
    file = tmp_path / "figures.json"
    assert run("--json", str(file)) == 0
    found = json.loads(file.read_text())
    assert {result["op"] for result in found["results"]} == set(command.CASES)
    assert found["machine"]["copy_gb_per_s"] > 0
    for result in found["results"]:
        assert {"ours", "eager"} <= set(result["ms"])
        assert result["ms"]["ours"]["median"] > 0
        assert result["times_floor"] == pytest.approx(result["ms"]["ours"]["median"] / result["floor_ms"])
    assert "x the floor" in capsys.readouterr().out


def test_wrong_numbers_are_not_timed(small, monkeypatch, tmp_path, capsys):
    right = eager.assign
    monkeypatch.setattr(eager, "assign", lambda *arguments: right(*arguments).clamp(max=0))
    file = tmp_path / "figures.json"
    assert run("assign", "--json", str(file)) == 5
    assert "WRONG NUMBERS, not timed" in capsys.readouterr().err
    assert json.loads(file.read_text())["results"] == []


@pytest.mark.parametrize(
    ("arguments", "said"), [(["assing"], "no op assing"), (["assign", "--only", "huge"], "no case's size contains")]
)
def test_mistakes(small, arguments, said, capsys):
    with pytest.raises(SystemExit):
        run(*arguments)
    assert said in capsys.readouterr().err


def test_bytes_of_a_coco_step():
    """docs/method.md, What it costs: 115 MB for bfloat16 logits and their gradient, 1.4 MB of indices."""
    size = problems.Size("COCO", 16, 800, 1344, 7.3)
    assert size.locations == 22_400
    logits = 2 * 2 * size.images * size.locations * problems.CLASSES
    assert logits == pytest.approx(115e6, rel=0.01)
    assert 4 * size.images * size.locations == pytest.approx(1.4e6, rel=0.03)


def test_its_table(small, tmp_path, capsys):
    file = tmp_path / "figures.json"
    run("assign", "nms", "--json", str(file))
    found = json.loads(file.read_text())
    found["results"][0]["ms"]["ours"] |= {"median": 2.5, "fastest": 2.25, "slowest": 3.0}
    found["results"][0] |= {"times_floor": 12.345}
    found["results"][0]["ratio_to_ours"]["eager"] = 3.21
    file.write_text(json.dumps(found))
    capsys.readouterr()
    assert table.main([str(file)]) == 0
    about, _, head, rule, first, *rows, _, _ = capsys.readouterr().out.split("\n")
    assert "date " in about
    assert head.count("|") == rule.count("|") == first.count("|")
    assert first.startswith(f"| `assign` | {found['results'][0]['size']} | 2.5 ms (2.25 to 3) | 12.3 | 3.2x |")
    assert len(rows) == len(found["results"]) - 1


def test_the_table_of_what_is_compiled(tmp_path, capsys):
    usual = {"kernel": "_a_kernel", "variant": "", "dtype": "float32", "spills": 0, "shared": 1024, "occupancy": 75}
    rows = [usual | {"target": target, "registers": 40 + place} for place, target in enumerate(aot.TARGETS)]
    rows += [
        row | {"dtype": "bfloat16", "registers": row["registers"] + 10, "spills": 8, "occupancy": 50}
        for row in rows[:1]
    ]
    file = tmp_path / "aot.json"
    file.write_text(json.dumps(rows))
    assert table.main([str(file)]) == 0
    assert (
        "| `_a_kernel` | float32, bfloat16 | 5 | 50 (50 %) | 41 (75 %) | 42 (75 %) | 43 (75 %) | 1024 | 8 |"
        in capsys.readouterr().out
    )
    file.write_text("{}")
    with pytest.raises(SystemExit):
        table.main([str(file)])
    assert "is no result of the benchmark or of aot" in capsys.readouterr().err
