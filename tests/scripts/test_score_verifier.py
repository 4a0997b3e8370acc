import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "score_verifier.py"


def run(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)


def test_a_score(tmp_path):
    done = run("dense/bias averaged", "Flatten", "--sizes", "4", "--seeds", "1", "--json", str(tmp_path / "score.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("wrong rules caught, size 4", "check_grads, float64", "right diagnosis", "100.0 % (1 of 1)"):
        assert part in done.stdout
    outcomes = [json.loads(line) for line in (tmp_path / "score.json").read_text().splitlines()]
    assert {(o["job"]["name"], o["verdict"]) for o in outcomes} == {
        ("dense/bias averaged", "fail"),
        ("Flatten", "pass"),
        ("Flatten/vectors", "pass"),
    }


def test_a_score_goes_on_where_it_was_cut_off(tmp_path):
    file, arguments = tmp_path / "score.json", ("Flatten", "--sizes", "4", "--seeds", "1", "--json")
    assert run(*arguments, str(file)).returncode == 0
    first, _ = file.read_text().splitlines()
    accused = json.loads(first) | {"verdict": "fail", "diagnosis": "as the file has it"}
    file.write_text(json.dumps(accused) + "\n")
    done = run(*arguments, str(file))
    assert done.returncode == 1 and "ACCUSED" in done.stdout and "as the file has it" in done.stdout
    assert {json.loads(line)["job"]["name"] for line in file.read_text().splitlines()} == {"Flatten", "Flatten/vectors"}
    assert len(file.read_text().splitlines()) == 2


def test_what_a_user_did_wrong(tmp_path):
    (tmp_path / "notes.txt").write_text("something else\n")
    for arguments, said in (
        (["nothing so called"], "nothing in the corpus"),
        (["dense", "--every", "0"], "at least 1"),
        (["dense", "--json", "/nowhere/score.json"], "there is no folder /nowhere"),
        (["dense", "--json", str(tmp_path / "notes.txt")], "not a file of outcomes"),
    ):
        done = run(*arguments)
        assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
