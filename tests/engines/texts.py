"""Texts that several tests speak."""

from typing import Final

#: Two sentences with an abbreviation.
STORY = (
    "The lighthouse keeper counted the ships each night, and wrote their names into a book. "
    "Dr. Smith asked him once why he did it; he said that somebody should. "
)

#: Each is recognised among the others.
SENTENCES = (
    "Go forward ten meters.",
    "The quick brown fox jumps over the lazy dog.",
    "Please turn on the light in the kitchen.",
    "We are ready to publish the next part of the story.",
    "One two three four five six seven eight nine ten.",
    "The weather is nice today.",
    "Open the door and close the window.",
    "Music and speech are on their way to you.",
    "My brother wrote a letter to the president.",
    "Seven ships sailed across the northern sea.",
)
#: What strangers send, by kind.
WIDE: Final = {
    "numbers": "-5 +3 −12.5 1,234,567 007 3.14159265358979 .5 5. 1e-9 1.5E6 0xFF 10^3 2*3 3x4 1234567890123456789",
    "grouped": "1 000 000 or 1.000.000 or 1'000'000 or 1,23 or 12,34,567",
    "fractions": "1/2 cup, 1 1/2 tsp, 2½ cups, ⅔ of 7/8, 9/11, 24/7, 100/3",
    "math": "E=mc², a² + b² = c², √2 ≈ 1.414, x ≠ y, 5 ≤ 6, 3×4÷2, ∑ x → ∞, πr², α β, |x| < 1, 50 ± 2",
    "money": "$1,234.56 $5M $3.2 billion US$20 €19,99 £0.01 ¥1000 20€ 15 EUR 5¢ ₹500 ₿2 -$5 CHF 10.-",
    "dates": "2024-05-06 05/06/2024 31/12/24 6.5.2024 2024-05-06T12:30:45.5Z May 6, 2024, 6 May 1999, '90s 1066 AD",
    "times": "12:30 p.m. 9AM 10:05pm 14:00 00:30 24:00 12:30:45.25 7 o'clock 99:99",
    "phones": "(555) 123-4567, +1 555-123-4567, 1-800-FLOWERS, 555.123.4567, +44 20 7946 0958, 911",
    "units": "5km 10 km/h 60mph 5'10\" 6 ft 3 m² 1 lb 100ml 2L 20% 50 % 1‰ 3GHz 12V 37.5 °C 90° 40°N 5 μs 1kWh",
    "ordinals": "1st 2nd 3rd 11th 21st 1,000th No. 5, pp. 3-5, Fig. 2, vol. II, 5–10, 1980s",
    "roman": "Henry VIII, Louis XIV's, World War II, Chapter IV, the XIX century, I, V. and X, MCMXCIV",
    "acronyms": "NASA FBI's U.S.A. Ph.D. R&D AT&T HTML5 MP3s COVID-19 4K H2O CO₂ TCP/IP w/o e.g. i.e. a.k.a.",
    "addresses": (
        "https://www.example.com/path/file-name_1.html?q=a&b=2#top foo.bar+x@mail.co.uk ftp://x.y:21/z 192.168.0.1 "
        "10.0.0.0/8 ::1 C:\\Users\\me /usr/bin/env ~/x.txt file.tar.gz v1.2.3 localhost:8080"
    ),
    "chat": "@user_name: omg!!! #BlackLivesMatter #1 u r gr8 :-) <3 xD ¯\\_(ツ)_/¯ lol😂😂😂 ok👍🏽 wtf?! brb... ;)",
    "code": 'if (x[i] == 10 && y != "z") { return foo_bar(x**2)->baz; } // $PATH #!/bin/sh <br/> &amp; %d\\n camelCase',
    "subtitles": "1\n00:00:01,000 --> 00:00:04,500\n- [Music] Hello.\n- ♪ La la ♪\n<i>Go!</i> {\\an8}>> JOHN: WE ARE HERE",
    "legal": "§ 5(2)(b), Art. III; Smith v. Jones, 5 U.S. (1 Cranch) 137 (1803); ¶ 12 © 2024 Foo®, Bar™ “hereinafter”",
    "recipe": "• 350°F/175°C\n• ¾ tsp salt\n• 2–3 lbs (1 kg) beef\n1) Mix. 2) Bake 20-25 min.",
    "post": "221B Baker St., Apt. 4C, St. Louis, MO 63101-1234; P.O. Box 12, Mt. Vernon; 5th Ave & 42nd St.",
    "quotes": "“Don't,” she said, ‘it's 'tis’ rock 'n' roll «bon» „gut“ O'Brien's dogs' y'all’s",
    "dashes": "well—known, a – b, word-word, -, --, ---, … ... .. . !?!? ,, ;; ''",
    "invisible": "zero\u200bwidth soft\u00adhyphen \ufeffbom join\u200der left\u200emark word\u2060joiner \u202eabc\u202c",
    "combining": "e\u0301te\u0301 n\u0303 Z\u0351\u036b\u0343a\u0321\u0320l\u034dg\u0321o H\u0337e\u0337y a\u0308\u0323",
    "letters": "naïve Zoë Łódź straße Ångström Dvořák Ğ ß æ œ ĳ ﬁ ＡＢＣ 𝐁𝐨𝐥𝐝 Ⅳ ① ㎏ ℃ ½ № ª º ™",
    "scripts": "Москва 東京 こんにちは 안녕 שלום مرحبا नमस्ते สวัสดี Αθήνα ქართული አማርኛ",
    "mixed": "Москваabc iPhone15東京 café漢字 XМосква7 русский-english 3月14日 ０１２ ١٢٣ १२३",
    "emoji": "😀🎉 👨\u200d👩\u200d👧 🇩🇪 👍🏽 ❤️ 1️⃣ ☃ ✓ ★ ♥ ⟴ 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "long": "x" * 300 + " " + "ab1" * 80 + " Donaudampfschifffahrtsgesellschaftskapitänsmützenständer " + "9" * 120,
    "unspaced": "吾輩は猫である名前はまだ無いどこで生れたかとんと見当がつかぬ" * 4,
    "thai": "ภาษาไทยไม่มีช่องว่างระหว่างคำ" * 6,
    "markup": "# Title\n**bold** _it_ `code` [link](http://x.y) | a | b |\n> quote\n- [x] done\n***\n~~no~~",
    "html": "<p>Hello &nbsp; <b>world</b></p><script>alert(1)</script> a<b>c",
    "spaces": "one\ttwo\u00a0three\u3000four\x0bfive\u2028six",
    "lone": "hi ㅤ \u115f \u1160 ـ ˈ ʼ ʻ ª º ー 々 〆 ๆ ⁿ ₐ ᵃ 〇 Ⅷ ߷ ᄒ ᴬ 𝟙 𐄂 ¼ ൧ ౧ there",
    "capitals": "THIS IS ALL CAPS AND SO ARE IBM, NATO, XKCD AND THE UK",
}
