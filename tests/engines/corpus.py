"""A paragraph in each of many languages, with all that speech libraries lose words of.

The sentences are the beginning of the Universal Declaration of Human Rights, or close to it.
"""

from typing import Final, NamedTuple

NUMBERS: Final = " ".join(map(str, range(1, 101)))
URL: Final = "https://www.example.org/read/me.html?page=7"
EMOJI: Final = "😀🎉🚀❤️🌍" * 6


class Language(NamedTuple):
    """Texts in one language."""

    #: Without punctuation; its words have spaces between them, or are cut by the library.
    sentence: str
    #: An abbreviation with a full stop, and a word that may follow it.
    abbreviation: str
    #: A syllable that makes a word of 200 letters.
    syllable: str

    @property
    def paragraph(self) -> str:
        """The whole paragraph."""
        words = self.sentence.split()
        half = len(words) // 2
        subtitle = f"{' '.join(words[:half])}\n{' '.join(words[half:])}."
        endless = " ".join([self.sentence] * (500 // len(self.sentence) + 1))
        long_word = self.syllable * (200 // len(self.syllable))
        return f"{NUMBERS}. 24.12.2025. 19.99 €. -5. {self.abbreviation}. {URL} . {EMOJI} {long_word}.\n\n{subtitle} {endless}"


LANGUAGES: Final = {
    "af": Language("Alle menslike wesens word vry met gelyke waardigheid en regte gebore", "Dr. Botha", "mana"),
    "ar": Language("يولد جميع الناس أحرارا متساوين في الكرامة والحقوق", "د. أحمد", "سلام"),
    "az": Language("Bütün insanlar ləyaqət və hüquqlarına görə azad və bərabər doğulurlar", "Dr. Əliyev", "mana"),
    "be": Language("Усе людзі нараджаюцца свабоднымі і роўнымі ў сваёй годнасці і правах", "г. Мінск", "мана"),
    "bg": Language("Всички хора се раждат свободни и равни по достойнство и права", "ул. Витоша", "мана"),
    "bn": Language("সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে", "ড. রহমান", "কলম"),
    "bs": Language("Sva ljudska bića rađaju se slobodna i jednaka u dostojanstvu i pravima", "dr. Hodžić", "mana"),
    "ca": Language("Tots els éssers humans neixen lliures i iguals en dignitat i en drets", "Dr. Puig", "mana"),
    "chr-us-qaaa-x-west": Language("ᏂᎦᏓ ᎠᏂᏴᏫ ᏂᎨᎫᏓᎸᎾ ᎠᎴ ᎤᏂᎶᏱ ᎤᎾᏕᎿ ᏚᏳᎪᏛ ᎨᏒᎢ", "Dr. Sequoyah", "tali"),
    "cv": Language("Пур ҫын та ирӗклӗ тата тан тивӗҫлӗхпе праваллӑ ҫуралать", "г. Шупашкар", "мана"),
    "gn": Language("Mayma yvypóra ou ko yvy ári iñapytyre ha eteĩcha dignidad ha derecho", "Dr. Rojas", "mana"),
    "haw": Language("Hānau kūʻokoʻa ʻia nā kānaka apau loa a ua kau like ka hanohano", "Dr. Kalani", "mana"),
    "ht": Language("Tout moun fèt lib egal ego pou diyite kou wè dwa", "Dr. Pierre", "mana"),
    "lb": Language("All Mënsche kommen fräi a mat deer nämmlechter Dignitéit op d'Welt", "Dr. Weber", "mana"),
    "nci": Language("Nochi tlacatl ipan tlalticpactli tlacatih yoltocniuh ihuan manyatoc", "Dr. Xochitl", "mana"),
    "quc": Language("Konojel ri winaq are taq kalaxik pa junamalil", "Dr. Tum", "mana"),
    "qya": Language("Ilyë Atani nar nónë lérë ar imya mi valdië ar túrë", "Dr. Elendil", "mana"),
    "si": Language("සියලු මනුෂ්‍යයෝ නිදහස්ව උපත ලබා ඇත", "ආචාර්ය. පෙරේරා", "කමල"),
    "sjn": Language("Edain onnad leithian ah sui vi iestad a thurad", "Dr. Elrond", "mana"),
    "cmn": Language("人人生而自由 在尊严和权利上一律平等", "Dr. 王", "好"),
    "cs": Language("Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv", "např. Praha", "mana"),
    "cy": Language("Genir pawb yn rhydd ac yn gydradd â'i gilydd mewn urddas a hawliau", "Dr. Jones", "mana"),
    "da": Language("Alle mennesker er født frie og lige i værdighed og rettigheder", "Dr. Jensen", "mana"),
    "de": Language("Alle Menschen sind frei und gleich an Würde und Rechten geboren", "5 Mio. Euro", "donau"),
    "el": Language("Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια", "κ. Παπάς", "μανα"),
    "en-gb": Language("All human beings are born free and equal in dignity and rights", "Dr. Smith", "mana"),
    "en-us": Language("All human beings are born free and equal in dignity and rights", "p.m. Monday", "mana"),
    "eo": Language("Ĉiuj homoj estas denaske liberaj kaj egalaj laŭ digno kaj rajtoj", "d-ro Zamenhof", "mana"),
    "es": Language("Todos los seres humanos nacen libres e iguales en dignidad y derechos", "Sr. García", "mana"),
    "et": Language("Kõik inimesed sünnivad vabadena ja võrdsetena oma väärikuselt ja õigustelt", "dr. Tamm", "mana"),
    "eu": Language("Gizon emakume guztiak aske jaiotzen dira eta berdinak dira duintasunean", "Dr. Etxe", "mana"),
    "fa": Language("تمام افراد بشر آزاد به دنیا می آیند و از لحاظ حیثیت برابرند", "د. رضا", "سلام"),
    "fi": Language(
        "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan", "tri. Virtanen", "mana"
    ),
    "fr-fr": Language("Tous les êtres humains naissent libres et égaux en dignité et en droits", "Dr. Dupont", "mana"),
    "ga": Language("Saolaítear na daoine uile saor agus comhionann ina ndínit agus ina gcearta", "Dr. Murphy", "mana"),
    "gu": Language("બધા માણસો સ્વતંત્ર અને સમાન ગૌરવ સાથે જન્મે છે", "ડૉ. પટેલ", "કમળ"),
    "he": Language("כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם", "ד. כהן", "שלום"),
    "hi": Language("सभी मनुष्य जन्म से स्वतंत्र और समान गरिमा तथा अधिकार वाले होते हैं", "डॉ. शर्मा", "कमल"),
    "hr": Language("Sva ljudska bića rađaju se slobodna i jednaka u dostojanstvu i pravima", "npr. Zagreb", "mana"),
    "hu": Language("Minden emberi lény szabadon születik és egyenlő méltósága és joga van", "Dr. Nagy", "mana"),
    "hy": Language("Բոլոր մարդիկ ծնվում են ազատ ու հավասար իրենց արժանապատվությամբ", "դ. Հակոբյան", "մանա"),
    "id": Language("Semua orang dilahirkan merdeka dan mempunyai martabat dan hak yang sama", "Dr. Hasan", "mana"),
    "is": Language("Hver maður er borinn frjáls og jafn öðrum að virðingu og réttindum", "t.d. Reykjavík", "mana"),
    "it": Language("Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti", "Sig. Rossi", "mana"),
    "ja": Language("すべてのにんげんは うまれながらにしてじゆうであり", "Dr. たなか", "さくら"),
    "ka": Language("ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებით", "დ. ბერიძე", "მანა"),
    "kk": Language("Барлық адамдар тумысынан азат және қадір қасиеті тең болып дүниеге келеді", "қ. Алматы", "мана"),
    "kn": Language("ಎಲ್ಲಾ ಮಾನವರೂ ಸ್ವತಂತ್ರರಾಗಿಯೇ ಜನಿಸಿದ್ದಾರೆ", "ಡಾ. ರಾವ್", "ಕಮಲ"),
    "ko": Language("모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다", "Dr. 김", "나무"),
    "lt": Language("Visi žmonės gimsta laisvi ir lygūs savo orumu ir teisėmis", "dr. Petraitis", "mana"),
    "lv": Language("Visi cilvēki piedzimst brīvi un vienlīdzīgi savā pašcieņā un tiesībās", "dr. Bērziņš", "mana"),
    "mk": Language("Сите човечки суштества се раѓаат слободни и еднакви по достоинство", "ул. Македонија", "мана"),
    "ml": Language("മനുഷ്യരെല്ലാവരും തുല്യാവകാശങ്ങളോടും അന്തസ്സോടും കൂടി ജനിച്ചവരാണ്", "ഡോ. നായർ", "കമല"),
    "mr": Language("सर्व मानवी व्यक्ती जन्मतः स्वतंत्र आहेत व त्यांना समान प्रतिष्ठा आहे", "डॉ. पाटील", "कमल"),
    "ms": Language("Semua manusia dilahirkan bebas dan sama rata dari segi kemuliaan dan hak", "Dr. Ali", "mana"),
    "nb": Language("Alle mennesker er født frie og med samme menneskeverd og rettigheter", "f.eks. Oslo", "mana"),
    "nl": Language("Alle mensen worden vrij en gelijk in waardigheid en rechten geboren", "dhr. Jansen", "mana"),
    "pl": Language("Wszyscy ludzie rodzą się wolni i równi pod względem swej godności", "ul. Piękna", "mana"),
    "pt": Language("Todos os seres humanos nascem livres e iguais em dignidade e em direitos", "Sr. Silva", "mana"),
    "pt-br": Language("Todas as pessoas nascem livres e iguais em dignidade e direitos", "Dra. Souza", "mana"),
    "ro": Language("Toate ființele umane se nasc libere și egale în demnitate și în drepturi", "dr. Popescu", "mana"),
    "ru": Language("Все люди рождаются свободными и равными в своем достоинстве и правах", "г. Москва", "мана"),
    "sk": Language("Všetci ľudia sa rodia slobodní a sebe rovní v dôstojnosti a právach", "napr. Nitra", "mana"),
    "sl": Language("Vsi ljudje se rodijo svobodni in imajo enako dostojanstvo in enake pravice", "dr. Novak", "mana"),
    "sq": Language("Të gjithë njerëzit lindin të lirë dhe të barabartë në dinjitet", "Dr. Hoxha", "mana"),
    "sr": Language("Сва људска бића рађају се слободна и једнака у достојанству и правима", "ул. Кнеза", "мана"),
    "sv": Language("Alla människor är födda fria och lika i värde och rättigheter", "t.ex. Malmö", "mana"),
    "sw": Language("Watu wote wamezaliwa huru hadhi na haki zao ni sawa", "Dk. Juma", "mana"),
    "ta": Language("மனிதப் பிறவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்", "டாக்டர். ராஜா", "கமல"),
    "te": Language("ప్రతిపత్తిస్వత్వముల విషయమున మానవులెల్లరును జన్మతః స్వతంత్రులు", "డా. రావు", "కమల"),
    "tr": Language("Bütün insanlar hür haysiyet ve haklar bakımından eşit doğarlar", "Dr. Yılmaz", "mana"),
    "uk": Language("Всі люди народжуються вільними і рівними у своїй гідності та правах", "м. Київ", "мана"),
    "ur": Language("تمام انسان آزاد اور حقوق و عزت کے اعتبار سے برابر پیدا ہوئے ہیں", "ڈ. خان", "سلام"),
    "vi": Language("Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm", "TS. Nguyễn", "mana"),
    "yue": Language("人人生而自由 喺尊嚴同權利上一律平等", "Dr. 陳", "好"),
}
#: Texts that a voice of espeak-ng 1.52 has no sound for, whole or in part: `espeak_TextToPhonemes` of the word is empty.
#: Other scripts than these are spelled out at least.
SILENT: Final = {
    "en-us": "ᏣᎳᎩ",  # Cherokee, which its own voice alone can say
    "chr-us-qaaa-x-west": "ꦗꦮ",  # Javanese
}
