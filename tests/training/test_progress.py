import re

from pipeline.training.progress import Display


def show(**options) -> None:
    with Display(epochs=2, steps_per_epoch=3, **options) as display:
        for step in range(1, 7):
            display.step(step, 1 / step, 1234.5)
            if step % 3 == 0:
                display.epoch(step // 3, {"loss": 0.25, "accuracy": 0.5}, "accuracy 0.5")


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


LINES = [
    f"epoch {epoch}/2  loss {mean}  validation loss 0.2500  accuracy 0.5000  1,234 examples/s"
    for epoch, mean in ((1, "0.6111"), (2, "0.2056"))
]
"""With the mean of the losses of each epoch's steps."""


def test_a_file_gets_a_plain_line_an_epoch(capsys):
    show()
    assert capsys.readouterr().out.splitlines() == LINES


def test_quiet_shows_nothing(capsys):
    show(quiet=True)
    assert capsys.readouterr().out == ""


def test_a_terminal_of_80_columns_keeps_epoch_bar_time_left_and_best_and_a_line_an_epoch(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    show()
    shown = plain(capsys.readouterr().out).splitlines()
    assert [line.rstrip() for line in shown if line.startswith("epoch") and "validation" in line] == LINES
    last = shown[-1].rstrip()
    assert re.match(r"epoch 2/2 ━{12,24} \d:\d\d:\d\d best accuracy 0\.5 loss 0\.1667", last) and len(last) <= 80


def test_programs_after_the_first_are_explained(capsys, monkeypatch):
    def compile_two(**options):
        with Display(epochs=1, steps_per_epoch=2, **options) as display:
            display.compiling((64, 32), 1)
            display.compiling((64, 48), 2)
        return plain(capsys.readouterr().out)

    assert compile_two() == "compiling for batches of 64x48, program 2\n" and compile_two(quiet=True) == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    assert "compiling for batches of 64x48, program 2" in compile_two()


def test_names_of_metrics_are_no_markup(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    with Display(epochs=2, steps_per_epoch=1) as display:
        display.epoch(1, {"[/b]": 0.5}, "[/b] 0.5")
        display.step(1, 1.0, 1.0)
    assert plain(capsys.readouterr().out).count("[/b] 0.5") >= 2
