"""English names of signs, units, currencies and abbreviations. Data only."""

from typing import Final

#: Abbreviations that stand for the same words anywhere, with their full stop or without.
ANYWHERE: Final = {
    "approx": "approximately",
    "apt": "apartment",
    "asst": "assistant",
    "ave": "avenue",
    "b/c": "because",
    "bldg": "building",
    "blvd": "boulevard",
    "c#": "C sharp",
    "corp": "corporation",
    "dept": "department",
    "e.g": "for example",
    "etc": "et cetera",
    "f#": "F sharp",
    "hwy": "highway",
    "i.e": "that is",
    "ltd": "limited",
    "mr": "mister",
    "mrs": "missus",
    "ms": "miz",
    "prof": "professor",
    "rd": "road",
    "tbsp": "tablespoons",
    "tsp": "teaspoons",
    "vs": "versus",
    "w/": "with",
    "w/o": "without",
}
#: Those that are words or names too: with their full stop only.
WITH_STOP: Final = {
    "apr": "April",
    "aug": "August",
    "co": "company",
    "dec": "December",
    "est": "established",
    "ext": "extension",
    "feb": "February",
    "hon": "honorable",
    "inc": "incorporated",
    "jan": "January",
    "jr": "junior",
    "jul": "July",
    "jun": "June",
    "mar": "March",
    "nov": "November",
    "oct": "October",
    "p.s": "P S",
    "sep": "September",
    "sept": "September",
    "sr": "senior",
    "ste": "suite",
}
#: Titles and the like: before a name with a capital, and with their full stop.
BEFORE_NAMES: Final = {
    "capt": "captain",
    "col": "colonel",
    "dr": "doctor",
    "ft": "fort",
    "gen": "general",
    "gov": "governor",
    "lt": "lieutenant",
    "mt": "mount",
    "rep": "representative",
    "rev": "reverend",
    "sen": "senator",
    "sgt": "sergeant",
    "st": "saint",
}
#: The same behind a name, where no name follows.
BEHIND_NAMES: Final = {"dr": "drive", "ft": "feet", "st": "street"}
#: Before a number.
BEFORE_NUMBERS: Final = {
    "ch": "chapter",
    "fig": "figure",
    "figs": "figures",
    "no": "number",
    "nos": "numbers",
    "p": "page",
    "pp": "pages",
    "sec": "section",
    "vol": "volume",
}
MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
#: Units behind a number, as they are written: one, and several.
UNITS: Final = {
    name: (single, plural or f"{single}s")
    for name, single, plural in (
        line.split(":")
        for line in """km:kilometer:|m:meter:|cm:centimeter:|mm:millimeter:|μm:micrometer:|nm:nanometer:|mi:mile:
        yd:yard:|ft:foot:feet|kg:kilogram:|g:gram:|mg:milligram:|μg:microgram:|lb:pound:|lbs:pound:|oz:ounce:|h:hour:|hr:hour:
        hrs:hour:|min:minute:|mins:minute:|s:second:|sec:second:|secs:second:|ms:millisecond:|μs:microsecond:
        ns:nanosecond:|L:liter:|l:liter:|mL:milliliter:|ml:milliliter:|cl:centiliter:|dl:deciliter:|KB:kilobyte:
        kB:kilobyte:|kb:kilobyte:|MB:megabyte:|mb:megabyte:|GB:gigabyte:|gb:gigabyte:|TB:terabyte:|tb:terabyte:
        Mbps:megabit per second:megabits per second|Gbps:gigabit per second:gigabits per second|Hz:hertz:hertz
        hz:hertz:hertz|kHz:kilohertz:kilohertz|khz:kilohertz:kilohertz|MHz:megahertz:megahertz|mhz:megahertz:megahertz
        GHz:gigahertz:gigahertz|ghz:gigahertz:gigahertz|V:volt:|mV:millivolt:|kV:kilovolt:|W:watt:|kW:kilowatt:
        kw:kilowatt:|MW:megawatt:|Wh:watt hour:|kWh:kilowatt hour:|mA:milliampere:|mAh:milliampere hour:|dB:decibel:
        Pa:pascal:|hPa:hectopascal:|kPa:kilopascal:|psi:P S I:P S I|kcal:kilocalorie:|kJ:kilojoule:|px:pixel:
        ha:hectare:|mph:mile per hour:miles per hour|kph:kilometer per hour:kilometers per hour
        km/h:kilometer per hour:kilometers per hour|m/s:meter per second:meters per second|rpm:R P M:R P M|am:A M:A M
        pm:P M:P M|AM:A M:A M|PM:P M:P M|x:times:times|m²:square meter:|km²:square kilometer:|cm²:square centimeter:
        ft²:square foot:square feet|m³:cubic meter:|cm³:cubic centimeter:|°C:degree Celsius:degrees Celsius
        °F:degree Fahrenheit:degrees Fahrenheit|USD:U S dollar:|EUR:euro:|GBP:British pound:|JPY:yen:yen
        CHF:Swiss franc:|CAD:Canadian dollar:|AUD:Australian dollar:|¢:cent:|€:euro:|£:pound:|¥:yen:yen|$:dollar:"""
        .replace("\n", "|").replace(" " * 8, "").split("|")
    )
}  # fmt: skip
#: Signs of currencies before a number: one, several, and a hundredth.
MONEY: Final = {
    "$": ("dollar", "dollars", "cent"),
    "US$": ("U S dollar", "U S dollars", "cent"),
    "C$": ("Canadian dollar", "Canadian dollars", "cent"),
    "CA$": ("Canadian dollar", "Canadian dollars", "cent"),
    "A$": ("Australian dollar", "Australian dollars", "cent"),
    "AU$": ("Australian dollar", "Australian dollars", "cent"),
    "NZ$": ("New Zealand dollar", "New Zealand dollars", "cent"),
    "HK$": ("Hong Kong dollar", "Hong Kong dollars", "cent"),
    "S$": ("Singapore dollar", "Singapore dollars", "cent"),
    "R$": ("real", "reals", "cent"),
    "€": ("euro", "euros", "cent"),
    "£": ("pound", "pounds", "penny"),
    "¥": ("yen", "yen", ""),
    "₹": ("rupee", "rupees", ""),
    "₽": ("ruble", "rubles", ""),
    "₩": ("won", "won", ""),
    "₪": ("shekel", "shekels", ""),
    "₺": ("lira", "liras", ""),
    "₴": ("hryvnia", "hryvnias", ""),
    "₱": ("peso", "pesos", ""),
    "₫": ("dong", "dong", ""),
    "₿": ("bitcoin", "bitcoins", ""),
}
SIGNS: Final = {
    "&": "and",
    "%": "percent",
    "‰": "per mille",
    "+": "plus",
    "−": "minus",
    "=": "equals",
    "@": "at",
    "#": "number",
    "°": "degrees",
    "×": "times",
    "÷": "divided by",
    "<": "less than",
    ">": "greater than",
    "≤": "less or equal",
    "≥": "greater or equal",
    "≠": "not equal to",
    "≈": "about",
    "±": "plus or minus",
    "©": "copyright",
    "®": "registered",
    "™": "trademark",
    "§": "section",
    "√": "square root",
    "∞": "infinity",
    "∑": "sum",
    "∏": "product",
    "∫": "integral",
    "∂": "partial",
    "∆": "delta",
    "→": "arrow",
    "←": "left arrow",
    "⇒": "implies",
    "∈": "in",
    "²": "squared",
    "³": "cubed",
    "¢": "cents",
    "№": "number",
    "♥": "heart",
    "✓": "check mark",
    "★": "star",
    "|": "bar",
    "~": "tilde",
    **{sign: names[0] for sign, names in MONEY.items() if len(sign) == 1},
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "η": "eta", "θ": "theta", "λ": "lambda",
    "μ": "mu", "ν": "nu", "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "phi", "χ": "chi", "ψ": "psi",
    "ω": "omega", "Δ": "delta", "Σ": "sigma", "Ω": "omega",
}  # fmt: skip
#: Those that are read out within an address besides.
IN_ADDRESSES: Final = {
    **SIGNS,
    ".": "dot",
    "/": "slash",
    "\\": "backslash",
    ":": "colon",
    "-": "dash",
    "_": "underscore",
    "?": "question mark",
    "#": "hash",
    "*": "star",
}
