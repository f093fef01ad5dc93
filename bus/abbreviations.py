"""Words whose full stop does not end a sentence. Left out are those that are common as other words, at its end."""

# ruff: noqa: RUF001  # letters of other scripts that look like Latin ones

from typing import Final

# fmt: off
#: Each without its last full stop.
ABBREVIATIONS: Final = frozenset((
    "al", "approx", "apr", "asst", "aug", "ave", "bd", "bldg", "blvd", "bzw", "ca", "cap", "capt", "cf", "cmdr", "co",
    "col", "corp", "dept", "dipl", "dr", "dra", "ed", "eds", "esp", "est", "et", "etc", "evtl", "ext", "feb", "fig",
    "figs", "fr", "ft", "gen", "ggf", "gov", "hon", "hr", "inc", "ing", "jan", "jr", "jul", "jun", "lt", "ltd", "mag",
    "messrs", "mlle", "mme", "mr", "mrs", "ms", "mt", "mwst", "nov", "oct", "okt", "op", "p.ex", "pp", "prof", "pvt",
    "rep", "rev", "sen", "sep", "sept", "sgt", "sig", "sog", "sr", "sra", "srta", "st", "str", "tel", "usw", "vgl",
    "viz", "vol", "vs", "zzgl",
    # German, Dutch, Scandinavian
    "allg", "bspw", "dgl", "frl", "geb", "hl", "insb", "inkl", "jh", "kath", "mio", "mrd", "tsd", "ugs", "urspr",
    "vorm", "nachm", "zt", "bijv", "dhr", "drs", "enz", "mej", "mevr", "mw", "kl", "nb", "osv", "tlf",
    # Romance
    "admón", "atte", "av", "avda", "bvd", "chap", "dª", "dña", "dott", "dpto", "exmo", "gral", "ilmo",
    "lda", "ltda", "mgr", "mons", "núm", "pág", "págs", "ppal", "sigg", "sto", "ste", "tél", "ud", "uds",
    "vd", "vds", "vv",
    # Slavic, Baltic, Hungarian
    "atd", "č", "cca", "godz", "gosp", "inż", "kpt", "mgr", "mld", "mln", "např",
    "np", "nám", "obr", "rtm", "św", "šk", "tj", "tř", "tys",
    "tzn", "tzv", "ul", "wg", "zob", "kft", "krt", "özv", "ún",
    "бул", "вул", "г", "гг", "гл", "гр", "д", "див", "др", "ж", "им", "ім", "кв", "корп", "млн", "млрд", "напр",
    "обл", "оз", "пер", "пл", "пр", "просп", "проф", "р", "рис", "рр", "руб", "св", "стр", "тыс", "тис",
    "ул", "чл", "экз",
    # Turkish, Greek
    "alb", "bkz", "cad", "çev", "mah", "müh", "örn", "sn", "sok", "yy", "αρ", "βλ", "δρ", "κ", "κα", "κος", "σελ",
))
#: Abbreviations only where a number follows: `No. 5`, and yet `No. I will not`.
BEFORE_NUMBERS: Final = frozenset(("abs", "art", "ch", "eq", "no", "nos", "nr", "núm", "p", "par", "sec", "ver"))
#: Words before a day: `am 3. Oktober`, `der 2. Weltkrieg`.
BEFORE_ORDINALS: Final = frozenset((
    "ab", "am", "beim", "bis", "das", "dem", "den", "der", "des", "die", "dieser", "dne", "ein", "eine", "einem",
    "einen", "einer", "im", "ins", "jeder", "jedes", "nach", "nächsten", "seit", "und", "vom", "vor", "zum", "zur",
))
# fmt: on
