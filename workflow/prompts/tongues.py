"""The same tasks in German, Spanish, French, Italian and Portuguese: right answer, and in the language."""

from __future__ import annotations

import random

from prompts.item import NAMES, Check, Item, at_most, number, says

CODES = ("de", "es", "fr", "it", "pt")
ENGLISH = dict(zip(CODES, ("German", "Spanish", "French", "Italian", "Portuguese"), strict=True))
# What each task asks, in the order of CODES; {…} is filled in.
CAPITAL = (
    ("Was ist die Hauptstadt von Frankreich?", "Die Hauptstadt von Frankreich ist {}.", "Paris"),
    ("¿Cuál es la capital de Francia?", "La capital de Francia es {}.", "París"),
    ("Quelle est la capitale de l'Italie ?", "La capitale de l'Italie est {}.", "Rome"),
    ("Qual è la capitale della Francia?", "La capitale della Francia è {}.", "Parigi"),
    ("Qual é a capital da França?", "A capital da França é {}.", "Paris"),
)
ONE_WORD = {
    "dog": ("Hund", "perro", "chien", "cane", ("cão", "cachorro")), "water": ("Wasser", "agua", "eau", "acqua", "água"),
    "red": ("rot", "rojo", "rouge", "rosso", "vermelho"), "house": ("Haus", "casa", "maison", "casa", "casa"),
    "winter": ("Winter", "invierno", "hiver", "inverno", "inverno"), "bread": ("Brot", "pan", "pain", "pane", "pão"),
    "yesterday": ("gestern", "ayer", "hier", "ieri", "ontem"), "spoon": ("Löffel", "cuchara", "cuillère", "cucchiaio", "colher"),
}  # fmt: skip
SUM = ("Was ist {} plus {}? Antworte nur mit der Zahl.", "¿Cuánto es {} más {}? Responde solo con el número.",
       "Combien font {} plus {} ? Réponds seulement par le nombre.", "Quanto fa {} più {}? Rispondi solo con il numero.",
       "Quanto é {} mais {}? Responde apenas com o número.")  # fmt: skip
READ = (
    "{name} wohnt in {city} und arbeitet in einer Bäckerei. Wo arbeitet {name}? Antworte mit einem ganzen Satz auf Deutsch.",
    "{name} vive en {city} y trabaja en una panadería. ¿Dónde trabaja {name}? Responde con una frase completa en español.",
    "{name} habite à {city} et travaille dans une boulangerie. Où travaille {name} ? Réponds par une phrase complète en français.",
    "{name} abita a {city} e lavora in una panetteria. Dove lavora {name}? Rispondi con una frase completa in italiano.",
    "{name} mora em {city} e trabalha numa padaria. Onde trabalha {name}? Responde com uma frase completa em português.",
)
READ_RIGHT = ("{name} arbeitet in einer Bäckerei.", "{name} trabaja en una panadería.", "{name} travaille dans une boulangerie.",
              "{name} lavora in una panetteria.", "{name} trabalha numa padaria.")  # fmt: skip
BAKERY = ("Bäckerei", "panadería", "boulangerie", "panetteria", "padaria")
COUNT = (
    ("eins, zwei, drei, vier", "fünf", "sechs"), ("uno, dos, tres, cuatro", "cinco", "seis"), ("un, deux, trois, quatre", "cinq", "six"),
    ("uno, due, tre, quattro", "cinque", "sei"), ("um, dois, três, quatro", "cinco", "seis"),
)  # fmt: skip
TOWN = (
    "{name} kommt aus {other}, wohnt aber in {city}. In welcher Stadt wohnt {name}? Antworte nur mit dem Namen.",
    "{name} es de {other}, pero vive en {city}. ¿En qué ciudad vive {name}? Responde solo con el nombre.",
    "{name} vient de {other}, mais habite à {city}. Dans quelle ville habite {name} ? Réponds seulement par le nom.",
    "{name} viene da {other}, ma abita a {city}. In quale città abita {name}? Rispondi solo con il nome.",
    "{name} é de {other}, mas mora em {city}. Em que cidade mora {name}? Responde apenas com o nome.",
)
# English sentence: translations that are near enough, in the order of CODES.
TRANSLATE: dict[str, tuple[tuple[str, ...], ...]] = {
    "The cat sleeps on the sofa.": (
        ("Die Katze schläft auf dem Sofa.",), ("El gato duerme en el sofá.", "La gata duerme en el sofá."),
        ("Le chat dort sur le canapé.", "Le chat dort sur le sofa."), ("Il gatto dorme sul divano.", "Il gatto dorme sul sofà."),
        ("O gato dorme no sofá.", "O gato está a dormir no sofá."),
    ),
    "Tomorrow we will go to the market and buy apples.": (
        ("Morgen gehen wir auf den Markt und kaufen Äpfel.", "Morgen werden wir zum Markt gehen und Äpfel kaufen."),
        ("Mañana iremos al mercado y compraremos manzanas.", "Mañana vamos a ir al mercado y comprar manzanas."),
        ("Demain, nous irons au marché et achèterons des pommes.", "Demain nous irons au marché et nous achèterons des pommes."),
        ("Domani andremo al mercato e compreremo delle mele.", "Domani andremo al mercato e compreremo mele."),
        ("Amanhã iremos ao mercado e compraremos maçãs.", "Amanhã vamos ao mercado comprar maçãs."),
    ),
    "If it had not rained, the children would have played in the garden.": (
        ("Wenn es nicht geregnet hätte, hätten die Kinder im Garten gespielt.", "Hätte es nicht geregnet, hätten die Kinder im Garten gespielt."),
        ("Si no hubiera llovido, los niños habrían jugado en el jardín.", "Si no hubiese llovido, los niños habrían jugado en el jardín."),
        ("S'il n'avait pas plu, les enfants auraient joué dans le jardin.",),
        ("Se non avesse piovuto, i bambini avrebbero giocato in giardino.", "Se non avesse piovuto, i bambini avrebbero giocato nel giardino."),
        ("Se não tivesse chovido, as crianças teriam brincado no jardim.",),
    ),
}  # fmt: skip
BACK = {
    "We live in a small house by the sea.": (
        "Wir wohnen in einem kleinen Haus am Meer.", "Vivimos en una casa pequeña junto al mar.", "Nous habitons une petite maison au bord de la mer.",
        "Abitiamo in una piccola casa vicino al mare.", "Moramos numa casa pequena à beira do mar."),
}  # fmt: skip
WEATHER = (
    ("Schreibe zwei Sätze auf Deutsch über das Wetter im Winter. Das Wort „Schnee“ muss vorkommen.", "Schnee", "Im Winter ist es kalt und die Tage sind kurz. Oft liegt Schnee auf den Dächern."),
    ("Escribe dos frases en español sobre el tiempo en invierno. La palabra «nieve» debe aparecer.", "nieve", "En invierno hace frío y los días son cortos. A menudo hay nieve en los tejados."),
    ("Écris deux phrases en français sur le temps en hiver. Le mot « neige » doit y figurer.", "neige", "En hiver, il fait froid et les jours sont courts. Il y a souvent de la neige sur les toits."),
    ("Scrivi due frasi in italiano sul tempo in inverno. La parola «neve» deve comparire.", "neve", "In inverno fa freddo e le giornate sono corte. Spesso c'è la neve sui tetti."),
    ("Escreve duas frases em português sobre o tempo no inverno. A palavra «neve» tem de aparecer.", "neve", "No inverno faz frio e os dias são curtos. Muitas vezes há neve nos telhados."),
)  # fmt: skip
DAY_AFTER = (
    ("Welcher Wochentag kommt nach dem Montag?", "Dienstag", "Mittwoch"), ("¿Qué día de la semana viene después del lunes?", "martes", "miércoles"),
    ("Quel jour de la semaine vient après le lundi ?", "mardi", "mercredi"), ("Quale giorno della settimana viene dopo il lunedì?", "martedì", "mercoledì"),
    ("Qual dia da semana vem depois da segunda-feira?", "terça", "quarta"),
)  # fmt: skip
STORY = (
    "{name} hat {a} Äpfel. {name} kauft {b} Tüten mit je {c} Äpfeln und gibt dann {d} Äpfel weg. Wie viele Äpfel hat {name} jetzt? Beende deine Antwort mit der Zahl.",
    "{name} tiene {a} manzanas. Compra {b} bolsas con {c} manzanas cada una y luego regala {d} manzanas. ¿Cuántas manzanas tiene ahora? Termina tu respuesta con el número.",
    "{name} a {a} pommes. Cette personne achète {b} sacs de {c} pommes chacun, puis donne {d} pommes. Combien de pommes lui reste-t-il ? Termine ta réponse par le nombre.",
    "{name} ha {a} mele. Compra {b} sacchetti con {c} mele ciascuno e poi regala {d} mele. Quante mele ha adesso? Termina la risposta con il numero.",
    "{name} tem {a} maçãs. Compra {b} sacos com {c} maçãs cada um e depois dá {d} maçãs. Quantas maçãs tem agora? Termina a resposta com o número.",
)
JSON_ASK = (
    "Gib nur ein JSON-Objekt mit den Schlüsseln „name“, „stadt“ und „alter“ (Zahl) für diesen Satz zurück: {name} ist {age} Jahre alt und kommt aus {city}.",
    "Devuelve solo un objeto JSON con las claves «nombre», «ciudad» y «edad» (número) para esta frase: {name} tiene {age} años y es de {city}.",
    "Renvoie seulement un objet JSON avec les clés « nom », « ville » et « age » (nombre) pour cette phrase : {name} a {age} ans et vient de {city}.",
    'Restituisci solo un oggetto JSON con le chiavi "nome", "luogo" e "anni" (numero) per questa frase: {name} ha {age} anni e viene da {city}.',
    "Devolve apenas um objeto JSON com as chaves «nome», «cidade» e «idade» (número) para esta frase: {name} tem {age} anos e é de {city}.",
)
JSON_KEYS = (
    ("name", "stadt", "alter"),
    ("nombre", "ciudad", "edad"),
    ("nom", "ville", "age"),
    ("nome", "luogo", "anni"),
    ("nome", "cidade", "idade"),
)


def speaks(code: str) -> Check:
    return {"type": "language", "value": code}


def tongues(seed: str) -> dict[int, list[Item]]:
    """All tasks of a level, language by language."""
    found: dict[int, list[Item]] = {level: [] for level in range(1, 6)}
    for at, code in enumerate(CODES):
        for level, item in _tasks(random.Random(f"{seed}/{code}"), at, code):
            found[level].append(item._replace(language=code))
    return {level: _turns(items) for level, items in found.items()}


def _turns(items: list[Item]) -> list[Item]:
    """Language by turns: the first task of each, then the second."""
    each = [[item for item in items if item.language == code] for code in CODES]
    return [item for row in zip(*each, strict=True) for item in row]


def _one_word(word: str, at: int) -> Item:
    said = ONE_WORD[word][at]
    right = (said,) if isinstance(said, str) else said
    others = [row[at] if isinstance(row[at], str) else row[at][0] for key, row in ONE_WORD.items() if key != word]
    question = f'What is the {ENGLISH[CODES[at]]} word for "{word}"? Answer with the word only.'
    return Item(question, 16, [says(*right), at_most(10)], f"**{right[0]}**", str(others[0]))


def _tasks(r: random.Random, at: int, code: str) -> list[tuple[int, Item]]:
    name, city, other = r.choice(NAMES), *r.sample(("Oslo", "Porto", "Graz", "Bergen"), 2)
    ask, answer, capital = CAPITAL[at]
    day, after, wrong_day = DAY_AFTER[at]
    a, b, c, d = r.randrange(3, 9), r.randrange(2, 6), r.randrange(3, 8), r.randrange(2, 6)
    small = r.randrange(1, 5), r.randrange(1, 5)
    whole = a + b * c - d
    keys = JSON_KEYS[at]
    person = dict(zip(keys, (name, city, 20 + a), strict=True))
    weather, snow, snowy = WEATHER[at]

    def near(right: tuple[str, ...], least: int) -> list[Check]:
        return [{"type": "near_text", "any": list(right), "min": least}]

    def translate(english: str, least: int) -> Item:
        right = TRANSLATE[english][at]
        question = f"Translate this sentence into {ENGLISH[code]}. Give only the translation.\n\n{english}"
        return Item(question, 48, [*near(right, least), speaks(code)], f'"{right[0]}"', english)

    easy, middle, hard = TRANSLATE
    ((plain, foreign),) = BACK.items()
    return [
        (1, Item(f"Repeat this {ENGLISH[code]} sentence exactly, and write nothing else.\n\n{foreign[at]}", 32,
                 [{"type": "exact_text", "value": foreign[at]}], f'"{foreign[at]}"', plain)),
        (1, Item(f"{TOWN[at].format(name=name, city=city, other=other).partition('. ')[0]}.\n\nIn which city does {name} live?", 24, [says(city), {"type": "not_contains", "any": [other]}], city, other)),
        (1, Item(f"Count in {ENGLISH[code]}. Which number comes next?\n\n{COUNT[at][0]}, …", 24,
                 [says(COUNT[at][1])], f"{COUNT[at][0]}, **{COUNT[at][1]}**", f"{COUNT[at][0]}, {COUNT[at][2]}")),
        (2, Item(ask, 32, [says(capital, *({capital.replace("í", "i")} - {capital}))], answer.format(f"**{capital}**"), answer.format("Madrid"))),
        (2, _one_word("dog", at)),
        (2, Item(SUM[at].format(*small), 16, [number(sum(small))], f"{sum(small)}.", str(sum(small) + 1))),
        (3, Item(day, 32, [{"type": "contains", "any": [after]}, {"type": "not_contains", "any": [wrong_day]}], f"{after}.", wrong_day)),
        (2, Item(TOWN[at].format(name=name, city=city, other=other), 16, [says(city), {"type": "not_contains", "any": [other]}], city, other)),
        (3, Item(READ[at].format(name=name, city=city), 40, [{"type": "contains", "any": [BAKERY[at]]}, speaks(code), at_most(20), {"type": "not_contains", "any": ["?"]}],
                 READ_RIGHT[at].format(name=name), f"{name} works in a bakery ({BAKERY[at]}) in the city.")),
        (3, translate(easy, 88)),
        (3, Item(f"Translate this sentence into English. Give only the translation.\n\n{foreign[at]}", 32,
                 [*near((plain, "We live in a little house by the sea.", "We live in a small house at the seaside.", "We live in a small house near the sea."), 88), speaks("en")],
                 plain, foreign[at])),
        (4, translate(middle, 85)),
        (4, Item(weather, 96, [{"type": "contains", "any": [snow]}, speaks(code), {"type": "sentences", "min": 2, "max": 2},
                  {"type": "not_contains", "any": ["das Wort", "la palabra", "le mot", "la parola", "a palavra"]}], snowy,
                 f"In winter it is cold and the days are short. There is often snow ({snow}) on the roofs.")),
        (4, Item(JSON_ASK[at].format(name=name, city=city, age=20 + a), 64, [{"type": "json_value", "equals": person}],
                 str(person).replace("'", '"'), str(person | {keys[2]: 19 + a}).replace("'", '"'))),
        (5, translate(hard, 85)),
        (5, Item(STORY[at].format(name=name, a=a, b=b, c=c, d=d), 160, [number(whole)], f"= **{whole}**", str(whole + d))),
    ]  # fmt: skip
