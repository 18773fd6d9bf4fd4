from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.speech_text import SpeechText, clean


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Hello there, how are you?", "Hello there, how are you?"),
        (" Leading and  double  spaces stay. ", " Leading and  double  spaces stay. "),
        ("This is **really** important and *very* nice.", "This is really important and very nice."),
        ("__Bold__ and _italic_ and ~~gone~~.", "Bold and italic and gone."),
        ("*smiles* Hello!", "Hello!"),
        ("Hello! *laughs softly* Good to see you.", "Hello! Good to see you."),
        ("Well (laughs) why not? [sighs] Fine.", "Well why not? Fine."),
        ("I have two (maybe three) of them.", "I have two (maybe three) of them."),
        ("Bonjour ! *sourit* Ça va ?", "Bonjour ! Ça va ?"),
        ("# Title\nText", "Title\nText"),
        ("- one\n- two\n* three", "one\ntwo\nthree"),
        ("1. one\n2. two", "1. one\n2. two"),
        ("> quoted words", "quoted words"),
        ("Nice 😀 day! 👩‍👩‍👧🇫🇷", "Nice day! "),
        ("😀 Hi", "Hi"),
        ("See [the docs](https://example.com/a_b?c=1) now.", "See the docs now."),
        ("Go to https://www.example.com/path?x=1, please.", "Go to example dot com, please."),
        ("Write to jo.do@example.org.", "Write to jo dot do at example dot org."),
        ("Use `pip install` for it.", "Use pip install for it."),
        ("Look:\n```python\nprint('x')\n```\nDone.", "Look:\nDone."),
        ("Unclosed:\n```\nprint(1)", "Unclosed:\n"),
        (
            "It costs $5.99, 50% of 1,000 at 10:30, -3.5 degrees.",
            "It costs $5.99, 50% of 1,000 at 10:30, -3.5 degrees.",
        ),
        ("2 * 3 is 6, and 4*5 is 20.", "2 times 3 is 6, and 4 times 5 is 20."),
        ("<think>let me see</think>Yes.", "Yes."),
        ("A<br>b <b>c</b>", "Ab c"),
        ("5 < 6 and 7 > 3", "5 < 6 and 7 > 3"),
        ("| a | b |\n|---|---|\n| c | d |", "a b\nc d "),
        ("Above\n---\nbelow", "Above\nbelow"),
        ("my_variable_name", "my variable name"),
        ("an * unclosed star *here", "an times unclosed star here"),
        ("- [ ] wash\n- [x] dry", "wash\ndry"),
        ("Nothing ( ) in [ ] there.", "Nothing ( ) in [ ] there."),
        ("Salt &amp; pepper &#39;n&#39; more.", "Salt & pepper 'n' more."),
        ("Well.<|im_end|>", "Well."),
        (r"It is \(a + b\), \*really\*.", "It is (a + b), really."),
        ("See https://en.wikipedia.org/wiki/Bee_(insect) for it.", "See en dot wikipedia dot org for it."),
        ("It is there (https://a.org/b).", "It is there (a dot org)."),
        ("", ""),
        ("...", "..."),
    ],
)
def test_what_is_said(written: str, said: str) -> None:
    assert clean(written) == said


def test_addresses_are_said_in_the_language() -> None:
    assert clean("Voir www.exemple.fr ou a@b.fr", "fr-FR") == "Voir exemple point fr ou a arobase b point fr"


def test_a_word_leaves_as_soon_as_it_is_complete() -> None:
    cleaner = SpeechText()
    assert cleaner.feed("Hel") == ""
    assert cleaner.feed("lo the") == "Hello"
    assert cleaner.feed("re. ") == " there."
    assert cleaner.finish() == " "


def test_an_open_span_does_not_hold_the_text_for_ever() -> None:
    cleaner = SpeechText()
    said = cleaner.feed("*" + "word " * 200)
    assert said.count("word") > 150


_WRITTEN = (
    st.text(alphabet="ab 1.2\n*_`~#->|[]()</:@!,😀🇫", max_size=80)
    | st.sampled_from(
        [
            "```\n",
            "https://a.b/c ",
            "*smiles* ",
            "<think>",
            "</think>",
            "[a](b)",
            "- ",
            "\n",
            "[ ]",
            "( )",
            "&amp;",
            "<|e|>",
        ]
    )
    | st.text(max_size=40)
)


@given(st.lists(_WRITTEN, max_size=6).map("".join), st.data())
def test_how_the_text_is_cut_into_pieces_never_matters(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    cleaner = SpeechText()
    said = (
        "".join(cleaner.feed(text[a:b]) for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)) + cleaner.finish()
    )
    assert said == clean(text)


@given(st.lists(st.from_regex(r"[A-Za-zéàü]{1,9}[.,!?]?|[0-9]{1,4}([.,][0-9]{1,3})?%?", fullmatch=True), max_size=20))
def test_plain_words_and_numbers_are_left_alone(words: list[str]) -> None:
    assert clean(" ".join(words)) == " ".join(words)
