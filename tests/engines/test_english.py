"""US English without espeak-ng: what is said for numbers, signs and abbreviations, and how words are pronounced."""

from collections.abc import Iterator

import pytest

from gpuworker.engines.reading import english_counting, english_numbers, english_text
from gpuworker.engines.reading.english_front import EnglishFrontEnd


@pytest.fixture(scope="module")
def english() -> Iterator[EnglishFrontEnd]:
    front_end = EnglishFrontEnd()
    front_end.start()
    yield front_end
    front_end.stop()


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("0", "zero"),
        ("13", "thirteen"),
        ("40", "forty"),
        ("105", "one hundred five"),
        ("1,234,567", "one million two hundred thirty four thousand five hundred sixty seven"),
        ("1984", "nineteen eighty four"),
        ("1905", "nineteen oh five"),
        ("1900", "nineteen hundred"),
        ("2000", "two thousand"),
        ("2024", "twenty twenty four"),
        ("3000", "three thousand"),
        ("007", "zero zero seven"),
        ("1234567890123456", "one two three four five six seven eight nine zero one two three four five six"),
        ("3.14", "three point one four"),
        (".5", "point five"),
        ("$4.50", "four dollars and fifty cents"),
        ("$1", "one dollar"),
        ("$0.01", "one cent"),
        ("£2.10", "two pounds and ten pence"),
        ("$3m", "three million dollars"),
        ("€1.5bn", "one point five billion euros"),
        ("¥500", "five hundred yen"),
        ("12%", "twelve percent"),
        ("21°C", "twenty one degrees Celsius"),
        ("1st", "first"),
        ("22nd", "twenty second"),
        ("20th", "twentieth"),
        ("1980s", "nineteen eighties"),
        ("3:30", "three thirty"),
        ("9:05pm", "nine oh five P M"),
        ("12:00", "twelve o'clock"),
    ],
)
def test_a_number_is_read_as_people_say_it(token: str, said: str) -> None:
    assert " ".join(english_numbers.words(token) or []) == said


@pytest.mark.parametrize("token", ["", "word", "1/2/3", "B2B", "1-2", "2024-13-01", "٣", "²"])
def test_other_tokens_are_no_numbers(token: str) -> None:
    assert english_numbers.words(token) is None


@pytest.mark.parametrize("number", range(0, 10**6, 9_973))
def test_every_cardinal_has_its_digits_back(number: int) -> None:
    value = group = 0
    words = english_counting.cardinal(number)
    ones, tens = english_counting._ONES, english_counting._TENS
    for word in words:
        if word == "thousand":
            value += group * 1000
            group = 0
        elif word == "hundred":
            group *= 100
        else:
            group += ones.index(word) if word in ones else 10 * tens.index(word)
    assert value + group == number


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("Dr.", "doctor"),
        ("e.g.", "for example"),
        ("U.S.", "U S"),
        ("p.m.", "P M"),
        ("FBI", "F B I"),
        ("CDs", "C D's"),
        ("mp3", "M P three"),
        ("10km", "ten kilometers"),
        ("3-5", "three to five"),
        ("555-1234", "five five five one two three four"),
        ("2024-05-06", "May sixth twenty twenty four"),
        ("1999-12-31", "December thirty first nineteen ninety nine"),
        ("1/2", "one half"),
        ("&", "and"),
        ("-7", "minus seven"),
        ("Café", "Cafe"),
        ("iPhones", "I Phones"),
        ("mother-in-law", "mother in law"),
        ("www.example.com/a?b=1", "W W W dot example dot com slash a question mark B equals one"),
        ("漢字", "漢字"),
    ],
)
def test_a_token_is_written_out(token: str, said: str) -> None:
    known = {"example", "com", "phones", "mother", "in", "law", "cafe"}
    assert " ".join(english_text.words(token, lambda word: word.lower() in known)) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("-5°C +3 −12.5%", "minus five degrees Celsius, plus three, minus twelve point five percent"),
        ("1 1/2 2½ ¾ 7/8 24/7", "one, and one half, two and one half, three quarters, seven eighths, twenty four seven"),
        ("$3.2 billion US$20 20€ ₹500", "three point two, billion dollars, twenty U S dollars, twenty euros, five hundred rupees"),
        ("15 EUR -$5", "fifteen, euros, minus five dollars"),
        ("05/06/2024 31/12/24", "May sixth twenty twenty four, December thirty first twenty four"),
        ("2024-05-06T12:30:45.5Z", "May sixth twenty twenty four at twelve thirty and forty five point five seconds Z"),
        ("May 6 6 May the 6 May", "May, sixth, the sixth of, May, the, sixth of, May"),
        ("2010-2015 5-10", "twenty ten to twenty fifteen, five to ten"),
        ("555 123-4567 555.123.4567", "five five five, one two three four five six seven, five five five one two three four five six seven"),
        ("192.168.0.1 v2", "one hundred ninety two dot one hundred sixty eight dot zero dot one, V two"),
        ("1e-9 10^3 3x4 2*3", "one times ten to the minus nine, ten to the power of three, three times four, two times three"),
        ("5 kg 1 lb 3 m² 10 km/h 5'10", "five, kilograms, one, pound, three, square meters, ten, kilometers per hour, five feet ten"),
        ("5G 4K MP3s", "five G, four K, M P three S"),
        ("Henry VIII's World War II Chapter I XIX century", "Henry, the eighth's, World, War, two, Chapter, one, nineteenth, century"),
        ("I am XL", "I, am, X L"),
        ("St. John St. and Dr. Who Mt Everest", "saint, John, street, and, doctor, Who, mount, Everest"),
        ("No. 5 pp. 3-5 vol. II no 5", "number, five, pages, three to five, volume, two, no, five"),
        ("Ms. Lee 5 ms of it", "miz, Lee, five, milliseconds, of, it"),
        ("AT&T w/o C# file.py #ok #5", "A T and T, without, C sharp, file dot py, hashtag ok, number five"),
        ("x² ≠ π", "X squared, not equal to, pi"),
        ("नमस्ते Zoë", "नमस्ते, Zoe"),
    ],
)  # fmt: skip
def test_a_token_is_written_out_as_its_neighbours_say(text: str, said: str) -> None:
    tokens = ["", *text.split(), ""]
    known = {"file", "ok", "no", "who", "am", "i"}
    found = [
        " ".join(english_text.words(token, lambda word: word.lower() in known, before, after))
        for before, token, after in zip(tokens, tokens[1:], tokens[2:], strict=False)
    ]
    assert ", ".join(found) == said


def test_a_part_of_a_token_that_has_no_sound_is_named(english: EnglishFrontEnd) -> None:
    assert english.phonemes("abc漢字 ok").unspoken == ((0, 5),)


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("The apple, the pear.", "ðɪ ˈæpəl, ðə pˈɛɹ."),
        ("A to B", "ˈeɪ tə bˈiː."),
        ("We see a happy bird!", "wiː sˈiː ɐ hˈæpi bˈɜːd!"),
        ("Is it? Yes", "ɪz ɪt? jˈɛs."),
        ("I live here — with two cats.", "ˈaɪ lˈɪv hˈɪɹ, wɪð tˈuː kˈæts."),
        ("antiphonically", "ˌæntɪfˈɑːnɪkli."),
    ],
)
def test_a_sentence_is_pronounced_as_espeak_writes_it(english: EnglishFrontEnd, text: str, symbols: str) -> None:
    assert english.phonemes(text).symbols == symbols


def test_every_word_begins_somewhere_and_what_has_no_sound_is_named(english: EnglishFrontEnd) -> None:
    text = "“Dr. Smith’s 42 dogs (all of them) ran 10km,” 漢字 ☃ … — e.g. in the U.S. at $4.50!"
    found = english.phonemes(text)
    words = [text[word.start : word.start + word.length] for word in found.words]
    assert words == [
        "Dr", "Smith’s", "42", "dogs", "all", "of", "them", "ran", "10km", "e.g", "in", "the", "U.S", "at", "4.50",
    ]  # fmt: skip
    places = [word.symbol for word in found.words]
    assert places == sorted(set(places))
    assert all(found.symbols[place].isalpha() or found.symbols[place] in "ˈˌ" for place in places)
    assert [text[start:end] for start, end in found.unspoken] == ["漢字", "☃"]


def test_odd_texts_have_phonemes_or_are_named(english: EnglishFrontEnd) -> None:
    for text in (
        "a" * 300,
        "'",
        "'s",
        "x" * 70 + " ok",
        "---",
        "A.B.C.D.",
        "$",
        "$.",
        "1,2,3,,",
        "%%%",
        "''' \"",
        "@@ ##",
        "1:99",
    ):
        found = english.phonemes(text)
        assert found.symbols or not found.words
