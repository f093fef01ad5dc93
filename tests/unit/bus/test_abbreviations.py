"""A full stop behind an abbreviation ends no sentence, and which words are abbreviations depends on the language."""

import pytest

from bus.abbreviations import abbreviations
from bus.sentences import sentences

ONE = [
    ("en-us", "See vol. II of Gen. Lee."),
    ("de", "Am 3. Oktober kam Hr. Müller mit 5 Mio. Euro."),
    ("it", "Ecco il sig. Rossi."),
    ("fr-fr", "Mme. Dupont habite au bd. Voltaire."),
    ("es", "La Sra. García y los Sres. Gil en EE. UU."),
    ("pt-br", "A Sra. Souza mora na av. Brasil."),
    ("nl", "Beste dhr. Jansen."),
    ("nb", "Møt hr. Hansen kl. Tolv."),
    ("pl", "To jest ul. Piękna."),
    ("cs", "Je to tř. Svobody."),
    ("ru", "Это г. Москва и ул. Ленина."),
    ("uk", "Це м. Київ."),
    ("el", "Ο κ. Παπάς."),
    ("hi", "यह डॉ. शर्मा हैं।"),
    ("ar", "هذا د. أحمد."),
    ("ur", "یہ ڈاکٹر. خان ہیں۔"),
    ("vi", "Đây là TS. Nguyễn."),
    ("tr", "Bu Doç. Yılmaz."),
    ("ko", "Dr. 김."),
    ("", "Ecco il sig. Rossi."),
]
TWO = [
    ("da", "Han vasker sig. Hun går."),
    ("nl", "Hij staat op. Dan gaat hij."),
    ("de", "Ich sage es den Mag. Er kommt."),
    ("en-us", "They will die 3. October is next."),
    ("fr-fr", "Il a pris le vol. Elle reste."),
    ("sv", "Det var hon. Han gick."),
    ("da", "De gik ud. Så kom de."),
    ("ro", "Zidul e alb. Casa e mare."),
    ("hu", "Ez nagyon sok. Menjünk."),
    ("pl", "Daj im. Potem idź."),
    ("es", "Eso es al. Luego."),
]


@pytest.mark.parametrize(("language", "text"), ONE)
def test_an_abbreviation_of_the_language_ends_no_sentence(language: str, text: str) -> None:
    assert len(list(sentences(text, language=language))) == 1


@pytest.mark.parametrize(("language", "text"), TWO)
def test_an_abbreviation_of_another_language_is_a_word(language: str, text: str) -> None:
    assert len(list(sentences(text, language=language))) == 2


def test_a_region_or_a_script_does_not_matter_and_an_unknown_language_has_the_common_ones() -> None:
    assert abbreviations("pt-BR") == abbreviations("pt")
    assert abbreviations("no") == abbreviations("NB")
    assert abbreviations("xx") == {"dr", "etc", "jr", "mr", "mrs", "ms", "prof", "st", "vs"}
    assert abbreviations("xx") < abbreviations("de") < abbreviations("")
