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
    outcomes = json.loads((tmp_path / "score.json").read_text())["outcomes"]
    assert {(o["job"]["name"], o["verdict"]) for o in outcomes} == {
        ("dense/bias averaged", "fail"),
        ("Flatten", "pass"),
        ("Flatten/vectors", "pass"),
    }


def test_what_a_user_did_wrong():
    for arguments, said in (
        (["nothing so called"], "nothing in the corpus"),
        (["dense", "--every", "0"], "at least 1"),
        (["dense", "--json", "/nowhere/score.json"], "there is no folder /nowhere"),
    ):
        done = run(*arguments)
        assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
