import itertools

import pytest

from gpuworker.engines.music.drums import GROOVES
from gpuworker.engines.music.form import Form
from gpuworker.engines.music.mood import parse_key, plan
from gpuworker.engines.music.orchestra import INSTRUMENTS
from gpuworker.engines.music.parts import BASSLINES, COMPS
from gpuworker.engines.music.scene import make_scene
from gpuworker.engines.music.score import LONGEST_TAIL_S, compose
from gpuworker.engines.music.sections import END, Section
from gpuworker.engines.music.styles import MOODS, STYLES
from gpuworker.engines.music.theory import SCALES, Chord, Key, voice_lead

SEEDS = range(6)


@pytest.mark.parametrize("prompt", ["a sad song", "traurige Musik", "une chanson triste", "una canción melancólica"])
def test_sad_words_make_it_minor_and_slow(prompt: str) -> None:
    plans = [plan(prompt, seed) for seed in SEEDS]
    assert {made.key.mode for made in plans} == {"minor"}
    assert all(50 <= made.bpm <= 85 for made in plans)


@pytest.mark.parametrize("prompt", ["happy tune", "fröhliche Musik", "musique joyeuse", "música alegre"])
def test_happy_words_make_it_bright_and_quick(prompt: str) -> None:
    plans = [plan(prompt, seed) for seed in SEEDS]
    assert not any(made.key.is_dark for made in plans)
    assert all(95 <= made.bpm <= 135 for made in plans)


@pytest.mark.parametrize(
    ("prompt", "tonic", "mode"),
    [
        ("piano in D minor", 2, "minor"),
        ("pop in F# major", 6, "major"),
        ("B flat major waltz", 10, "major"),
        ("Orgel in h-Moll", 11, "minor"),
        ("a-moll Walzer", 9, "minor"),
        ("ballade en ré mineur", 2, "minor"),
        ("vals en sol mayor", 7, "major"),
        ("sad song in C major", 0, "major"),
        ("jam in E dorian", 4, "dorian"),
    ],
)
def test_a_key_that_the_prompt_names_is_kept_whatever_the_mood(prompt: str, tonic: int, mode: str) -> None:
    for seed in SEEDS:
        made = plan(prompt, seed)
        assert (made.key.tonic, made.key.mode, made.key_fixed) == (tonic, mode, True)


def test_an_article_is_no_key() -> None:
    assert not plan("a minor detail of a happy day", 1).key_fixed
    assert not plan("walking in a forest", 1).key_fixed


@pytest.mark.parametrize(
    ("prompt", "bpm"), [("techno 140 bpm", 140), ("sad and slow, 150 BPM", 150), ("rock at 999 bpm", 300)]
)
def test_a_tempo_that_the_prompt_names_is_kept_within_the_limits(prompt: str, bpm: float) -> None:
    assert {plan(prompt, seed).bpm for seed in SEEDS} == {float(bpm)}


def test_parameters_win_over_the_prompt() -> None:
    made = plan("sad song in D minor, 70 bpm", 1, 133.0, "Ab major")
    assert (made.bpm, made.key.name, made.key.mode) == (133.0, "Ab", "major")


@pytest.mark.parametrize("prompt", ["a waltz", "Walzer für Klavier", "folk in 3/4", "valse triste"])
def test_a_waltz_has_three_beats(prompt: str) -> None:
    assert plan(prompt, 1).beats == 3
    assert plan("a march", 1).beats == 4


@pytest.mark.parametrize(("prompt", "metre"), [("a jig in 6/8", 6), ("polka, 2/4", 2), ("in 4 / 4", 4)])
def test_a_metre_that_the_prompt_names_is_obeyed(prompt: str, metre: int) -> None:
    assert plan(prompt, 1).metre == metre


@pytest.mark.parametrize(
    "prompt",
    [
        "techno, no drums",
        "rock without any drums",
        "Pop ohne Schlagzeug",
        "rock sans batterie",
        "pop sin batería",
        "solo piano",
    ],
)
def test_drums_that_are_refused_do_not_play(prompt: str) -> None:
    for seed in SEEDS:
        made = plan(prompt, seed)
        form = Form(30.0, 60 / made.bpm, made.beats, 0.3)
        assert not made.groove
        assert not any(compose(made, form, form.section_at_bar(bar), 48_000).hits for bar in range(form.bars + 1))


@pytest.mark.parametrize(
    ("prompt", "instrument"),
    [
        ("sad violin", "violin"),
        ("epic with choir", "choir"),
        ("jazz with saxophone", "sax"),
        ("Akkordeon und Gitarre", "accordion"),
        ("rock guitar", "eguitar"),
        ("lofi without piano", "!piano"),
    ],
)
def test_an_instrument_that_is_named_plays_and_one_that_is_refused_does_not(prompt: str, instrument: str) -> None:
    for seed in SEEDS:
        voices = plan(prompt, seed).voices.values()
        assert (instrument in voices) if instrument[0] != "!" else (instrument[1:] not in voices)


def test_solo_means_alone() -> None:
    assert {name for seed in SEEDS for name in plan("solo piano, dreamy", seed).voices.values()} == {"piano"}


@pytest.mark.parametrize("style", STYLES)
def test_every_style_can_be_chosen_and_its_tables_name_existing_entries(style: str) -> None:
    entry = STYLES[style]
    assert plan(f"make it {entry.words.split()[0].rstrip('*')} please", 1).style_name == style
    assert {*entry.lead, *entry.chords, *entry.pad, *entry.bass, *entry.arp} - {""} <= set(INSTRUMENTS)
    assert set(entry.comp) <= set(COMPS)
    assert set(entry.bassline) <= set(BASSLINES)
    assert entry.groove in {"", *GROOVES}
    assert set(entry.modes) <= set(SCALES)


def test_every_mood_leads_to_a_style_and_every_instrument_has_a_sound() -> None:
    from gpuworker.engines.music.kit import DRUMS
    from gpuworker.engines.music.tones import TIMBRES

    assert {mood.style for mood in MOODS.values()} <= set(STYLES)
    assert set(TIMBRES) == set(INSTRUMENTS)
    assert {line.sound for groove in GROOVES.values() for line in groove} <= set(DRUMS)
    assert max(timbre.tail_s for timbre in TIMBRES.values()) < LONGEST_TAIL_S


@pytest.mark.parametrize("text", ["", "H", "C##", "Bb purple", "12"])
def test_a_text_that_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a key is a letter"):
        parse_key(text)


def test_sections_cover_every_bar_once_at_any_length() -> None:
    for bars in range(150):
        form = Form((bars + 0.1) * 2.0 + 3.2, 0.5, 4, 0.0)
        bar = count = 0
        while True:
            section = form.section_at_bar(bar)
            assert (section.first_bar, section.index) == (bar, count)
            if section.kind is END:
                break
            assert all(form.section_at_bar(inner) == section for inner in range(bar, bar + section.bars))
            bar, count = bar + section.bars, count + 1
        assert bar == form.bars
        assert form.end_s < form.seconds


def test_a_tune_recurs_and_the_last_bars_come_home() -> None:
    made = plan("happy pop in C major, 120 bpm", 5)
    form = Form(90.0, 0.5, 4, 0.3)
    sections: list[Section] = []
    bar = 0
    while not sections or sections[-1].kind is not END:
        sections.append(form.section_at_bar(bar))
        bar += sections[-1].bars
    tunes = [
        [
            (note.pitch, round(note.start_s - form.second(4.0 * section.first_bar), 1))
            for note in compose(made, form, section, 48_000).notes
            if note.level == 1.0
        ]
        for section in sections
    ]
    names = [section.kind.name for section in sections]
    first, again = names.index("A"), names.index("A", names.index("A") + 1)
    assert [pitch for pitch, _ in tunes[first]] == [pitch for pitch, _ in tunes[again]]
    assert tunes[first] != tunes[names.index("B")]
    outro, end = (make_scene(made, section) for section in sections[-2:])
    assert [harmony.chord.degree for harmony in outro.harmonies][-2:] == [3, 4]
    assert [harmony.chord.degree for harmony in end.harmonies] == [0]


def test_voices_move_by_small_steps_from_chord_to_chord() -> None:
    chords = [Chord(degree) for degree in (0, 4, 5, 3, 1, 4, 0)]
    voicings = voice_lead(Key(0, "major"), chords, 62.0)
    for before, after in itertools.pairwise(voicings):
        assert all(abs(low - high) <= 5 for low, high in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("tonic", "mode", "name"),
    [(3, "minor", "Eb"), (6, "major", "F#"), (8, "minor", "G#"), (10, "minor", "Bb"), (1, "major", "Db")],
)
def test_a_key_is_spelt_as_musicians_do(tonic: int, mode: str, name: str) -> None:
    assert Key(tonic, mode).name == name
