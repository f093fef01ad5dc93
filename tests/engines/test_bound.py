"""No job makes more audio than the bound on its model's card says, and ordinary prose makes not much less."""

import contextlib
import random
import unicodedata
from collections.abc import Sequence

import pytest

from bus import wire
from bus.bound import SpokenText
from bus.errors import TooLarge
from bus.jobs.validate import AudioLimit
from bus.settings import BusSettings
from gpuworker.engine import Block, EngineJob, Rejected, TextLost
from gpuworker.engines.music.engine import MIN_SECONDS, Music
from gpuworker.engines.music.engine import RATE_HZ as MUSIC_HZ
from gpuworker.engines.music.form import Form
from gpuworker.engines.speech.bound import spoken_text
from gpuworker.engines.speech.engine import RATE_HZ, Speech

BOUND = spoken_text()
LOWER = "abcdefghijklmnopqrstuvwxyz"
PROSE = (
    "The lighthouse keeper counted the ships each night, and wrote their names into a book. Once a year a man came from "
    "the town, read the book from the first page to the last, and went away without a word. I asked him what for. "
    "He said that in 1987, when he was a boy, a ship had not been counted."
)


def letters(first: int, last: int) -> str:
    return "".join(chr(code) for code in range(first, last) if unicodedata.category(chr(code))[0] in "LN")


ALPHABETS = (
    LOWER,
    LOWER.upper(),
    LOWER + LOWER.upper() + "0123456789",
    "0123456789",
    "!\"#$%&'()*+,-./:;=?@[\\]^_`{|}~",
    letters(0xC0, 0x17F),
    letters(0x391, 0x3C9),
    letters(0x410, 0x44F),
    letters(0x5D0, 0x5EA),
    letters(0x620, 0x64A),
    letters(0x905, 0x939),
    letters(0xE01, 0xE30),
    letters(0x3041, 0x30FF),
    letters(0x4E00, 0x9FFF),
    letters(0xAC00, 0xD7A0),
    "".join(chr(code) for code in range(0x1F300, 0x1F64F)),
)


def random_word(rng: random.Random) -> str:
    match rng.randrange(8):
        case 0:
            return f"{rng.randrange(10 ** rng.randint(1, 15))}"
        case 1:
            return f"{rng.randrange(24)}:{rng.randrange(60):02d}"
        case 2:
            return f"${rng.randrange(10**6)}.{rng.randrange(100):02d}"
        case 3:
            return "".join(rng.choice(LOWER) for _ in range(rng.randint(20, 60)))
        case 4 | 5:
            return rng.choice(PROSE.split())
        case _:
            alphabet = rng.choice(ALPHABETS)
            return "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 9)))


def random_text(rng: random.Random) -> str:
    words = " ".join(random_word(rng) for _ in range(rng.randint(1, 20)))
    return words if any(char.isalnum() for char in words) else f"{words} a"


def random_document(rng: random.Random) -> str:
    """SSML: breaks, attributes that may be spoken, rates, texts that are spelled out."""

    def part() -> str:
        text = " ".join(rng.choice(PROSE.split()) for _ in range(rng.randint(1, 12)))
        match rng.randrange(7):
            case 0:
                return f'{text} <break time="{rng.randrange(4000)}ms"/>'
            case 1:
                return f"{text} <break time='{rng.randrange(6)}s'/><break strength='x-strong'/><break/>"
            case 2:
                return f'<s role="{text}">{text}</s>'
            case 3:
                return f'<prosody rate="{rng.choice(("x-slow", "10%", "-50%", "1.2"))}">{text}</prosody>'
            case 4:
                return f'<say-as interpret-as="{rng.choice(("characters", "tts:char", "digits"))}">{text} 1987</say-as>'
            case 5:
                return f"<p xml:lang='{rng.choice(('ja', 'ky', 'de'))}'>{text}</p>"
            case _:
                return f"<s>{text}</s>"

    return f"<speak>{' '.join(part() for _ in range(rng.randint(1, 6)))}</speak>"


def random_job(rng: random.Random, voices: Sequence[str]) -> EngineJob:
    voice = rng.choice([*voices, "en-us", "de+f3", "en-us+marco"])
    is_document = rng.random() < 0.2 and not voice.startswith("flite")
    text = random_document(rng) if is_document else random_text(rng)
    params = {"speed": round(rng.uniform(0.25, 4), 2)} if rng.random() < 0.4 else {}
    return EngineJob(id="j", input=text, voice=voice, params=params)


def spoken_s(speech: Speech, job: EngineJob) -> float:
    """Seconds of audio, also of a text of which a word was lost."""
    frames = 0
    with contextlib.suppress(TextLost):
        for _, event in speech.generate([speech.validate(job)]):
            frames += len(event.pcm) if isinstance(event, Block) else 0
    return frames / RATE_HZ


def outgrown(speech: Speech, seed: int, count: int) -> list[tuple[float, float, EngineJob]]:
    """Jobs that are longer than their bound: (spoken seconds, bound, job)."""
    rng = random.Random(seed)
    voices = [voice.id for voice in speech.capabilities().voices]
    found = []
    for _ in range(count):
        job = random_job(rng, voices)
        bound_s = BOUND.seconds(job.input, job.voice, job.params)
        length_s = spoken_s(speech, job)
        if length_s > bound_s:
            found.append((length_s, bound_s, job))
    return found


@pytest.mark.slow
def test_no_text_is_spoken_for_longer_than_its_bound(speech: Speech) -> None:
    assert outgrown(speech, seed=1, count=50) == []


@pytest.mark.slow
def test_no_text_of_2000_is_spoken_for_longer_than_its_bound(speech: Speech) -> None:
    assert outgrown(speech, seed=2, count=2000) == []


@pytest.mark.parametrize("voice", ["en-us", "en-gb", "flite-slt"])
def test_the_bound_of_prose_is_less_than_three_times_its_length(speech: Speech, voice: str) -> None:
    if voice not in {offered.id for offered in speech.capabilities().voices}:
        pytest.skip(f"{voice} is not installed")
    length_s = spoken_s(speech, EngineJob(id="j", input=PROSE, voice=voice))
    assert length_s < BOUND.seconds(PROSE, voice, {}) < 3 * length_s


@pytest.mark.parametrize(
    ("text", "least_s"),
    [
        ('<speak>a<break time="100000ms"/></speak>', 100),
        ("<speak>" + '<break time="100000ms"/>' * 50 + "</speak>", 5000),
        ("<speak><break time = '7S' time2='x'/></speak>", 7),
        ("<speak><break foo=\"time='9000s'\" time='1s'/></speak>", 9000),
        (f'<speak><s role="{"blah " * 6000}">a</s></speak>', 1400),
    ],
)
def test_breaks_and_attributes_count(text: str, least_s: float) -> None:
    """Attack Q7: 1.5 KB of breaks made 83 minutes, 30 KB of attributes 49."""
    assert BOUND.seconds(text, "en-us", {}) > least_s


def test_a_document_that_makes_more_than_a_job_may_is_refused_by_field_and_limit() -> None:
    text = "<speak>" + '<break time="100000ms"/>' * 300 + "</speak>"
    with pytest.raises(TooLarge, match=r"^input: up to 3\d,\d{3} s .* the limit .* 21,600 s"):
        AudioLimit.of(BusSettings()).check(wire.Job(input=text), BOUND, 2 * RATE_HZ)


@pytest.mark.parametrize(
    ("slower", "faster"),
    [
        ({"voice": "ja"}, {"voice": "en-us"}),
        ({"voice": "en-us+f3"}, {"voice": "en-us"}),
        ({"voice": "flite"}, {"voice": "flite-slt"}),
        ({"params": {"speed": 0.5}}, {}),
        ({"params": {"speed": 1}}, {"params": {"speed": 4}}),
        ({"text": "1987"}, {"text": "year"}),
        ({"text": "BBC"}, {"text": "bat"}),
        ({"text": "中文"}, {"text": "ab"}),
        ({"text": "Привет"}, {"text": "Привет", "voice": "ru"}),
        ({"text": "x" * 40}, {"text": "bed " * 10}),
    ],
)
def test_what_takes_longer_has_a_larger_bound(slower: dict[str, object], faster: dict[str, object]) -> None:
    def bound_s(text: str = "Hello.", voice: str = "en-us", params: dict[str, float] | None = None) -> float:
        return BOUND.seconds(text, voice, params or {})

    assert bound_s(**slower) > bound_s(**faster)  # type: ignore[arg-type]


def test_every_class_that_a_card_lists_exists() -> None:
    assert isinstance(Speech().capabilities().bound, SpokenText)
    listed = {voice for voices in BOUND.reads for voice in [voices]} | set(BOUND.pace)
    known = {voice.id for voice in Speech().capabilities().voices}
    assert {voice for voice in listed if not voice.startswith("flite")} <= known


def test_music_makes_no_more_than_its_bound() -> None:
    rng, limit, music = random.Random(4), AudioLimit.of(BusSettings()), Music()
    for _ in range(2000):
        seconds = rng.choice([float(MIN_SECONDS), rng.uniform(1, 60), rng.uniform(60, 5500)])
        job = music.validate(EngineJob(id="m", input="a calm evening", params={"seconds": seconds}))
        frames = Form(job.params["seconds"], rng.uniform(0.25, 1.5), rng.choice((3, 4)), rng.uniform(0, 1)).frames
        max_bytes = limit.check(wire.Job(input="x", params=job.params), music.capabilities().bound, 4 * MUSIC_HZ)
        assert 4 * frames <= max_bytes <= 4 * frames + 256


def test_a_text_that_cannot_be_spoken_has_a_bound_all_the_same(speech: Speech) -> None:
    with pytest.raises(Rejected):
        speech.validate(EngineJob(id="j", input="<speak>a"))
    assert BOUND.seconds("<speak>a", "", {"speed": "fast"}) > 0
