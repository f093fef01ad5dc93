"""The styles that a prompt can choose, and the moods that change them. Data only."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Style:
    """The habits of a genre."""

    #: Words of a prompt that choose it; `*` ends a stem.
    words: str
    #: Slowest and fastest.
    bpm: tuple[int, int]
    modes: tuple[str, ...]
    #: Name in `drums.GROOVES`; empty: no drums unless the prompt wants some.
    groove: str
    lead: tuple[str, ...]
    chords: tuple[str, ...]
    pad: tuple[str, ...]
    bass: tuple[str, ...]
    arp: tuple[str, ...]
    #: Names in `parts.COMPS` and `parts.BASSLINES`.
    comp: tuple[str, ...]
    bassline: tuple[str, ...]
    #: Family of chord loops in `theory`.
    family: str = "any"
    beats: int = 4
    #: Delay of the second eighth, as a share of a beat; 1/6 is a triplet.
    swing: float = 0.0
    sevenths: bool = False
    #: Spread of the players' timing, seconds.
    loose_s: float = 0.006
    wet: float = 0.22
    hall: bool = False
    echo: float = 0.0
    #: How far the kick pushes the others down, 0 … 1.
    pump: float = 0.0
    #: How much longer the last beat before the final chord is.
    slowing: float = 0.35
    #: 0 (hardly moves) … 1.
    energy: float = 0.5


STYLES: dict[str, Style] = {
    "pop": Style(
        "pop summer sommer ete verano radio catchy indie", (98, 122), ("major", "major", "mixolydian"), "pop",
        ("lead", "pluck", "epiano"), ("piano", "guitar"), ("warm", "strings"), ("fingered",), ("pluck", "marimba"),
        ("eighths", "strum", "block"), ("eighths", "syncopated"), echo=0.16, energy=0.6,
    ),
    "ballad": Style(
        "ballad* ballade* balada* love liebe* amour amor romant* wedding", (64, 80), ("major", "minor"), "ballad",
        ("violin", "flute", "piano", "cello"), ("piano",), ("strings", "warm"), ("fingered", "upright"), ("harp",),
        ("broken", "arpeggio"), ("roots", "fifths"), wet=0.3, hall=True, echo=0.1, energy=0.35,
    ),
    "ambient": Style(
        "ambient* drone* space* weltraum meditat* sleep* schlaf* sommeil relax* spa yoga ocean* meer float* dream* "
        "traum*",
        (58, 76), ("lydian", "major", "dorian"), "",
        ("glass", "bells", "flute"), ("epiano", "harp"), ("warm", "choir", "glass"), ("sub",), ("bells", "harp"),
        ("block", "sparse"), ("roots",), "calm", sevenths=True, loose_s=0.012, wet=0.42, hall=True, echo=0.3,
        energy=0.12,
    ),
    "lofi": Style(
        "lofi lo-fi chill* chillhop study* coffee* kaffee* cafe", (72, 88), ("dorian", "minor", "major"), "boombap",
        ("epiano", "pluck", "guitar"), ("epiano", "piano"), ("warm",), ("upright", "sub"), ("marimba",),
        ("lazy", "sparse"), ("lazy", "roots"), "jazz", swing=0.09, sevenths=True, loose_s=0.013, wet=0.2, echo=0.14,
        energy=0.35,
    ),
    "jazz": Style(
        "jazz* swing* bebop blues bluesy noir smoky lounge", (104, 148), ("major", "dorian", "minor"), "swing",
        ("sax", "trumpet", "piano", "clarinet"), ("piano",), ("",), ("upright",), ("",),
        ("comping",), ("walking",), "jazz", swing=0.155, sevenths=True, loose_s=0.011, wet=0.16, energy=0.5,
    ),
    "house": Style(
        "techno* house edm trance dance* rave* club* disco* electro* elektro* party* fiesta fete", (118, 132),
        ("minor", "dorian", "minor"), "house",
        ("lead", "pluck", "glass"), ("epiano", "pluck"), ("warm", "glass"), ("synthbass",), ("pluck",),
        ("stabs",), ("offbeat", "pumping"), loose_s=0.002, wet=0.2, echo=0.26, pump=0.55, slowing=0.0, energy=0.85,
    ),
    "cinematic": Style(
        "epic* episch* epique cinemat* film* movie trailer* battle* schlacht* hero* helden* war krieg guerr* "
        "soundtrack kino",
        (84, 108), ("minor", "minor", "dorian"), "taiko",
        ("brass", "violin", "trumpet", "choir"), ("strings",), ("brass", "choir", "strings"), ("synthbass", "sub"),
        ("strings", "harp"),
        ("ostinato",), ("roots", "eighths"), "epic", wet=0.36, hall=True, energy=0.75,
    ),
    "rock": Style(
        "rock* metal* punk* grunge garage hard", (116, 152), ("minor", "mixolydian", "major"), "rock",
        ("eguitar", "lead", "organ"), ("eguitar",), ("organ",), ("fingered",), ("",),
        ("eighths", "drive"), ("eighths",), wet=0.16, energy=0.85,
    ),
    "classical": Style(
        "classic* klassi* clasic* baroque* barock* mozart bach sonat* symphon* sinfon* chamber kammer* quartet* "
        "minuet* menuett*",
        (84, 120), ("major", "minor"), "",
        ("violin", "flute", "clarinet", "piano"), ("piano", "harp"), ("strings",), ("cello",), ("harp",),
        ("alberti", "broken"), ("roots", "fifths"), "classical", loose_s=0.009, wet=0.3, hall=True, slowing=0.5,
        energy=0.4,
    ),
    "folk": Style(
        "folk* acoustic* akusti* acousti* acustic* country campfire irish celtic celt* keltisch medieval* "
        "mittelalter* tavern*",
        (92, 116), ("major", "mixolydian", "dorian"), "folk",
        ("flute", "violin", "accordion", "guitar"), ("guitar",), ("strings", ""), ("upright",), ("harp",),
        ("strum", "broken"), ("fifths", "roots"), loose_s=0.009, wet=0.22, energy=0.5,
    ),
    "chip": Style(
        "chip* 8-bit 8bit videogame* game* gaming arcade* retro pixel* spiel* jeu juego", (124, 156),
        ("major", "minor"), "chip",
        ("chip",), ("chip",), ("",), ("synthbass",), ("chip",),
        ("block",), ("eighths", "pumping"), loose_s=0.0, wet=0.06, echo=0.18, slowing=0.1, energy=0.75,
    ),
    "funk": Style(
        "funk* groov* soul* motown rnb", (98, 116), ("dorian", "mixolydian"), "funk",
        ("brass", "sax", "organ", "epiano"), ("epiano", "guitar"), ("organ", ""), ("fingered",), ("",),
        ("stabs", "comping"), ("funk",), "any", swing=0.03, sevenths=True, loose_s=0.006, wet=0.14, energy=0.7,
    ),
    "bossa": Style(
        "bossa* latin* samba* salsa tropic* tango beach* strand plage playa island* karib* caribb*", (112, 132),
        ("major", "minor", "dorian"), "bossa",
        ("flute", "guitar", "marimba"), ("guitar",), ("strings", ""), ("upright",), ("marimba",),
        ("bossa",), ("bossa",), "jazz", sevenths=True, loose_s=0.008, wet=0.18, energy=0.5,
    ),
    "hiphop": Style(
        "hiphop hip-hop trap rap beats boombap gangst* drill phonk", (78, 94), ("minor", "phrygian", "dorian"), "trap",
        ("bells", "pluck", "flute", "piano"), ("epiano", "piano"), ("warm", "choir"), ("sub",), ("pluck",),
        ("sparse", "block"), ("lazy", "syncopated"), loose_s=0.005, wet=0.2, echo=0.18, energy=0.65,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mood:
    """How a mood changes a style."""

    #: Words of a prompt that name it; `*` ends a stem.
    words: str
    #: Likely modes of the piece; empty: the style decides.
    modes: tuple[str, ...]
    #: Style when the prompt names none.
    style: str
    #: Factor of the style's tempo.
    tempo: float = 1.0
    #: Added to the style's energy.
    energy: float = 0.0


MOODS: dict[str, Mood] = {
    "happy": Mood(
        "happy* happi* joy* cheer* bright* sunny sun upbeat* playful* funny frohlich* froehlich* glucklich* lustig* "
        "heiter* joyeu* gai "
        "heureu* alegre* feliz* fun birthday* celebrat* carefree optimis*",
        ("major", "major", "lydian", "mixolydian"), "pop", 1.04, 0.1,
    ),
    "sad": Mood(
        "sad sadness sadly melanchol* melancol* lonel* tear* grief griev* mourn* funeral rain rainy heartbr* "
        "nostalg* sorrow* loss farewell "
        "traurig* trauer* einsam* regen* trist* pluie lluvia sehnsucht* abschied*",
        ("minor",), "ballad", 0.9, -0.15,
    ),
    "calm": Mood(
        "calm* peace* quiet* soft* gentle gently slow slowly serene* tranquil* soothing lullaby* ruhig* sanft* "
        "leise* langsam* friedlich* "
        "doux douce* lent calme* tranquil* suave* lento paisible morning",
        ("major", "lydian", "dorian"), "ambient", 0.9, -0.25,
    ),
    "dark": Mood(
        "dark* gloom* ominous* horror* scary creep* haunt* evil* mysteri* spooky* tense tension suspens* dunkel* "
        "duster* duester* "
        "unheimlich* gruselig* geheimnis* sombre* noir* oscur* misterio* villain* doom* shadow* night",
        ("minor", "phrygian"), "cinematic", 0.95, 0.0,
    ),
    "energetic": Mood(
        "energ* fast* power* intens* drive driving wild* aggress* workout* sport* run running race action* excit* "
        "furious* schnell* kraftvoll* "
        "rapide* rapido* vite furi* urgent* adrenal*",
        (), "rock", 1.12, 0.25,
    ),
    "proud": Mood(
        "triumph* victor* proud* glor* majest* noble* royal* anthem* hymn* heroic* sieg* stolz* triomph* victoire* "
        "inspir* uplift* hope* hopeful* "
        "hoffnung* espoir esperanza",
        ("major", "mixolydian", "lydian"), "cinematic", 1.0, 0.1,
    ),
}  # fmt: skip
