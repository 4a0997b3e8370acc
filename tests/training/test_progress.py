import re

from pipeline.training.progress import Display


def show(**options) -> None:
    with Display(epochs=2, steps_per_epoch=3, **options) as display:
        for step in range(1, 7):
            display.step(step, 1 / step, 1234.5)
            if step % 3 == 0:
                display.epoch(step // 3, {"loss": 0.25, "accuracy": 0.5})


def test_a_file_gets_a_plain_line_an_epoch(capsys):
    show()
    assert capsys.readouterr().out == "".join(
        f"epoch {epoch}/2  loss {loss}  validation loss 0.2500  accuracy 0.5000  1,234 examples/s\n"
        for epoch, loss in ((1, "0.3333"), (2, "0.1667"))
    )


def test_quiet_shows_nothing(capsys):
    show(quiet=True)
    assert capsys.readouterr().out == ""


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    show()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out)
    assert "epoch 2/2" in text and "6/6" in text and "loss 0.1667  validation loss 0.2500" in text
    assert "1,234 examples/s" in text


def test_names_of_metrics_are_no_markup(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    with Display(epochs=2, steps_per_epoch=1) as display:
        display.epoch(1, {"[/b]": 0.5})
        display.step(1, 1.0, 1.0)
    assert "[/b] 0.5" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out)
