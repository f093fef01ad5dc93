"""The instruments: the words that name them, the roles they can take, and their range. No audio is made here."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Instrument:
    """An instrument, as a player sees it."""

    #: Name in the job's facts.
    title: str
    #: Words of a prompt that name it; `*` ends a stem.
    words: str
    #: The roles it can take, best first: lead, chords, pad, arp, bass.
    roles: tuple[str, ...]
    #: Middle of its comfortable range, a MIDI number.
    centre: int
    #: A held note keeps sounding.
    sustains: bool = False


INSTRUMENTS: dict[str, Instrument] = {
    "piano": Instrument("piano", "piano* klavier* pianist*", ("chords", "lead", "arp", "bass"), 67),
    "epiano": Instrument("electric piano", "rhodes epiano wurlitzer keys keyboard*", ("chords", "lead", "arp"), 67),
    "guitar": Instrument(
        "nylon guitar", "guitar guitars gitarre* guitare* guitarra* ukulele banjo", ("chords", "lead", "arp"), 64
    ),
    "eguitar": Instrument("overdriven guitar", "distort* overdriv* riff*", ("chords", "lead"), 62, sustains=True),
    "strings": Instrument(
        "strings",
        "strings orchestra* orchester* orchestr* orquesta* streicher cordes cuerdas",
        ("pad", "chords"),
        64,
        sustains=True,
    ),
    "violin": Instrument("violin", "violin* geige* violon* fiddle*", ("lead", "pad"), 76, sustains=True),
    "cello": Instrument("cello", "cello* violoncel*", ("lead", "pad"), 57, sustains=True),
    "flute": Instrument("flute", "flute* flote* floete* flauta* whistle panpipe*", ("lead",), 79, sustains=True),
    "clarinet": Instrument("clarinet", "clarinet* klarinette* oboe*", ("lead",), 70, sustains=True),
    "brass": Instrument(
        "brass", "brass horns horn blaser cuivres metales fanfare*", ("pad", "lead"), 62, sustains=True
    ),
    "trumpet": Instrument("trumpet", "trumpet* trompet* trombone*", ("lead",), 70, sustains=True),
    "sax": Instrument("saxophone", "sax saxophon* saxof*", ("lead",), 66, sustains=True),
    "organ": Instrument("organ", "organ orgel* orgue* organo hammond", ("pad", "chords", "lead"), 64, sustains=True),
    "accordion": Instrument(
        "accordion", "accordion* accordeon* akkordeon* acordeon*", ("lead", "pad"), 69, sustains=True
    ),
    "choir": Instrument("choir", "choir* chor choeur* coro choral* angelic*", ("pad", "lead"), 64, sustains=True),
    "bells": Instrument("bells", "bell bells glock* glocke* cloche* campana* chime*", ("arp", "lead"), 79),
    "marimba": Instrument("marimba", "marimba* xylophon* vibraphon* kalimba*", ("arp", "lead", "chords"), 72),
    "harp": Instrument("harp", "harp harps harfe* harpe* arpa", ("arp", "lead", "chords"), 69),
    "musicbox": Instrument("music box", "musicbox lullaby* wiegenlied* berceuse*", ("lead", "arp"), 81),
    "lead": Instrument("synth lead", "synth* synthesi*", ("lead", "pad"), 72, sustains=True),
    "warm": Instrument("warm pad", "pad pads drone*", ("pad",), 62, sustains=True),
    "glass": Instrument("glass pad", "glass* shimmer* crystal*", ("pad", "arp"), 67, sustains=True),
    "pluck": Instrument("synth pluck", "pluck* arpeggi*", ("arp", "lead"), 72),
    "chip": Instrument("square wave", "square", ("lead", "arp"), 74, sustains=True),
    "upright": Instrument("upright bass", "contrabass* kontrabass* contrebasse* contrabajo upright", ("bass",), 38),
    "fingered": Instrument("bass guitar", "", ("bass",), 38),
    "synthbass": Instrument("synth bass", "", ("bass",), 38, sustains=True),
    "sub": Instrument("sub bass", "808 sub", ("bass",), 36, sustains=True),
}
