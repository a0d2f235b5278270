"""The shipped model draws what it is asked for: a part of what `python -m training.measure` measures."""

from __future__ import annotations

from training import measure


def test_most_pictures_show_what_the_prompt_says() -> None:
    asked = measure.questions()[::16]
    assert len({question.group for question in asked}) == 4
    found = measure.answers(asked)
    wrong = [(answer.question.prompt, answer.wrong()) for answer in found if answer.wrong()]
    assert len(wrong) <= 5, wrong
    assert "| one object, all | " in measure.table(found)
    assert measure.confusion(found).count("\n") <= 5
