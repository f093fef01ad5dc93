"""Words whose full stop does not end a sentence, by language: `sig.` is a gentleman in Italian, and Danish for oneself.

Left out are those that are common as other words of the language, at the end of its sentences.
"""

# ruff: noqa: RUF001  # letters of other scripts that look like Latin ones

import functools
from typing import Final

#: Of every language. Each without its last full stop, in lower case.
_COMMON: Final = "dr prof mr mrs ms jr st vs etc"
_NORDIC: Final = "bl ca dvs evt evtl fr frk hr inkl kl mht mv osv resp tel tlf vgl jan feb aug sept okt nov des dec"
_SOUTH_SLAVIC: Final = (
    "dipl gđa god gosp ing itd itn mr mrs npr odn oz sv št tj tzv ul бул г год гђа др итд нпр проф св стр тзв тј ул"
)
_EAST_SLAVIC: Final = (
    "авг акад бул г гг гл гос гр д дек див доц др ж им кв корп млн млрд напр нояб обл оз окт пер пл пр просп проф р "
    "рис рр руб св сент см ср ст стр т тел тов тыс ул февр чл экз янв"
)
_MALAY: Final = "bpk dll drs dsb hj ir jl sdr sdri tgl tn ny yth"
_OF_LANGUAGE: Final = {
    "af": "bl bv ens mej mev mnr prok tel vgl",
    "ar": "د أ م",
    "bg": f"{_EAST_SLAVIC} вж лв хил",
    "be": f"{_EAST_SLAVIC} вобл вул ім праф тыс",
    "bn": "ড ডা মো",
    "bs": _SOUTH_SLAVIC,
    "ca": "av dra núm pàg pàgs sr sra sta tel",
    "cs": (
        "atd atp bc č cca čl doc ing judr kpt mgr mld mudr např nám obr odst phdr resp rndr šk str tel tis tj tř tzn "
        "tzv ul"
    ),
    "da": _NORDIC,
    "de": (
        "allg apr aug bd bspw bzw ca dez dgl dipl evtl feb fr frl geb ggf gest hl hr ing inkl insb jan jh kath mio "
        "mrd mwst nachm nov okt sept sog str tel tsd ugs urspr usw vgl vorm zzgl zt"
    ),
    "el": "αρ βλ δρ κ κα κος σελ τηλ χλμ",
    "en": (
        "al approx apr asst aug ave bldg blvd capt cf cmdr co col corp dec dept ed eds esp est ext feb fig figs ft gen "
        "gov hon hr hrs inc jan jul jun lt ltd messrs mt nov oct op pp pvt rep rev sen sep sept sgt sr tel viz vol"
    ),
    "es": (
        "admón apdo arq atte av avda cía col dª dña dpto dra ee ej exmo fdo gral ilmo ing izq lic ltda núm pág págs pp "
        "ppal sr sra sres srta sto tel ud uds uu vd vds vol vv"
    ),
    "et": "hr jms jne jt lk lp näit nt pr prl tel vrd vt",
    "eu": "adb and etab jn or tel",
    "fa": "د آقا",
    "fi": "ent esim huom jne klo ks mm nk ns puh toim tri vrt yms",
    "fr": (
        "av bd boul cf chap déc env éd févr fig hab janv juil mgr mlle mlles mm mme mmes nov oct pl pp sept ste sté "
        "suiv tél"
    ),
    "ga": "lch uimh",
    "gu": "ડૉ શ્રી",
    "he": "ד גב",
    "hi": "डॉ प्रो श्री पं",
    "hr": _SOUTH_SLAVIC,
    "hu": "id ifj ill kb kft krt özv pl stb sz tel ui ún vö",
    "hy": "դ պրոֆ",
    "id": _MALAY,
    "is": f"{_NORDIC} sbr skv",
    "it": "arch avv cfr dott ecc egr geom gent ing mons pag pagg rag sig sigg spett tel vol",
    "ka": "დ პროფ",
    "kk": f"{_EAST_SLAVIC} қ ғ",
    "kn": "ಡಾ ಶ್ರೀ",
    "lb": "bzw ca geb hr jh mio mrd resp tel",
    "lt": "doc gatv gerb kt pan pvz tel",
    "lv": "doc gadsk piem plkst tel utt",
    "mk": _SOUTH_SLAVIC,
    "ml": "ഡോ ശ്രീ",
    "mr": "डॉ प्रा श्री",
    "ms": _MALAY,
    "nb": _NORDIC,
    "ne": "डा प्रा श्री",
    "nl": "afb bijv blz ca dhr dhrn drs enz evt fig incl ing ir jan febr jl mej mevr mln mw nov okt pag sept tel vgl",
    "pa": "ਡਾ ਸ",
    "pl": "al dyr godz gosp hab inż kpt mgr mld mln nast np obr os pkt por rtm ryc str św tel tj tys tzn tzw ul wg zob",
    "pt": "av avda cap cia dep dra eng exma exmo ilma ilmo lda ltda núm pág págs profa séc sr sra srs srta tel vol",
    "ro": "bd cca dl dna fig ing jud obs pag str tel vol",
    "ru": _EAST_SLAVIC,
    "sk": "atď atp č cca čl doc ing judr kpt mgr mld mudr napr nám obr odst phdr resp str tel tis tj tzn tzv ul",
    "sl": f"{_SOUTH_SLAVIC} ga gdč gl ipd npr oddel tel",
    "sq": "znj",
    "sr": _SOUTH_SLAVIC,
    "sv": _NORDIC,
    "sw": "bi bw dk",
    "ta": "டாக்டர் திரு",
    "te": "డా శ్రీ",
    "th": "ดร นาย",
    "tr": "alb av bkz cad çev doç mah müh örn sn sok vb yrd yy",
    "uk": (
        "акад бул буд вул г гр грн див доц ім ін кв коп м млн млрд напр обл пл пров просп проф р рис рр с св см ст "
        "стор тел тис"
    ),
    "ur": "ڈ ڈاکٹر",
    "vi": "bs gs ks pgs ths tp ts",
}
_SAME: Final = {
    "no": "nb",
    "nn": "nb",
    "fo": "da",
    "an": "es",
    "cv": "ru",
    "ba": "ru",
    "ky": "ru",
    "tt": "ru",
    "nog": "ru",
}
#: Abbreviations only where a number follows: `No. 5`, and yet `No. I will not`.
BEFORE_NUMBERS: Final = frozenset(
    ("abs", "art", "br", "ch", "eq", "no", "nos", "nr", "núm", "p", "par", "pág", "sec", "ver")
)
# fmt: off
#: German words before a day, whose month has a capital: `am 3. Oktober`, `der 2. Weltkrieg`.
_BEFORE_ORDINALS: Final = frozenset((
    "ab", "am", "beim", "bis", "das", "dem", "den", "der", "des", "die", "dieser", "dne", "ein", "eine", "einem",
    "einen", "einer", "im", "ins", "jeder", "jedes", "nach", "nächsten", "seit", "und", "vom", "vor", "zum", "zur",
))
# fmt: on


@functools.lru_cache(maxsize=256)
def abbreviations(language: str) -> frozenset[str]:
    """Those of a language, a BCP 47 tag in any case; of all languages if it is ""."""
    if not language:
        return frozenset(" ".join((_COMMON, *_OF_LANGUAGE.values())).split())
    primary = language.casefold().partition("-")[0]
    return frozenset(f"{_COMMON} {_OF_LANGUAGE.get(_SAME.get(primary, primary), '')}".split())


def before_ordinals(language: str) -> frozenset[str]:
    """Words behind which a number and a full stop are an ordinal, in `language` or, if it is "", in any."""
    return _BEFORE_ORDINALS if language.casefold().partition("-")[0] in {"", "de", "lb"} else frozenset()
