"""Capitals of countries, asked both ways round, in English and Chinese."""

from random import Random

from tools.train_nano.sample import Check, Exchange
from tools.train_nano.words import listed

CAPITALS: dict[str, str] = dict(
    line.split("=")
    for line in """France=Paris
Germany=Berlin
Italy=Rome
Spain=Madrid
Portugal=Lisbon
Greece=Athens
Austria=Vienna
Belgium=Brussels
Poland=Warsaw
Sweden=Stockholm
Norway=Oslo
Denmark=Copenhagen
Finland=Helsinki
Iceland=Reykjavik
Ireland=Dublin
the United Kingdom=London
the Netherlands=Amsterdam
Switzerland=Bern
Hungary=Budapest
Romania=Bucharest
Bulgaria=Sofia
Serbia=Belgrade
Croatia=Zagreb
Slovakia=Bratislava
Estonia=Tallinn
Latvia=Riga
Lithuania=Vilnius
Ukraine=Kyiv
Russia=Moscow
Turkey=Ankara
Egypt=Cairo
Morocco=Rabat
Tunisia=Tunis
Algeria=Algiers
Kenya=Nairobi
Ethiopia=Addis Ababa
Ghana=Accra
Nigeria=Abuja
Senegal=Dakar
Uganda=Kampala
Rwanda=Kigali
Angola=Luanda
Zambia=Lusaka
Namibia=Windhoek
China=Beijing
Japan=Tokyo
South Korea=Seoul
Mongolia=Ulaanbaatar
Vietnam=Hanoi
Thailand=Bangkok
Indonesia=Jakarta
the Philippines=Manila
Malaysia=Kuala Lumpur
India=New Delhi
Nepal=Kathmandu
Pakistan=Islamabad
Bangladesh=Dhaka
Iran=Tehran
Iraq=Baghdad
Jordan=Amman
Lebanon=Beirut
Saudi Arabia=Riyadh
Qatar=Doha
Canada=Ottawa
the United States=Washington
Mexico=Mexico City
Cuba=Havana
Jamaica=Kingston
Brazil=Brasilia
Argentina=Buenos Aires
Chile=Santiago
Peru=Lima
Colombia=Bogota
Ecuador=Quito
Venezuela=Caracas
Uruguay=Montevideo
Australia=Canberra
New Zealand=Wellington
Fiji=Suva""".splitlines()
)

CAPITALS_ZH: dict[str, str] = dict(
    pair.split("=")
    for pair in listed(
        """
        中国=北京 日本=东京 法国=巴黎 德国=柏林 意大利=罗马 西班牙=马德里 英国=伦敦 俄罗斯=莫斯科 韩国=首尔
        泰国=曼谷 越南=河内 印度=新德里 埃及=开罗 加拿大=渥太华 美国=华盛顿 巴西=巴西利亚 澳大利亚=堪培拉
        希腊=雅典 葡萄牙=里斯本 瑞典=斯德哥尔摩 挪威=奥斯陆 芬兰=赫尔辛基 荷兰=阿姆斯特丹 奥地利=维也纳
        """
    )
)

_ASK = [
    "What is the capital of {0}?",
    "What's the capital of {0}?",
    "Which city is the capital of {0}?",
    "Name the capital of {0}.",
    "Tell me the capital of {0}.",
    "Can you tell me the capital of {0}?",
    "What city is the capital of {0}?",
    "capital of {0}",
    "Capital of {0}?",
    "The capital of {0} is which city?",
    "Do you know the capital of {0}?",
    "I would like to know the capital of {0}.",
    "Please name the capital city of {0}.",
    "what is the capital of {0}",
]
_ASK_BACK = [
    "Which country has {0} as its capital?",
    "{0} is the capital of which country?",
    "Of which country is {0} the capital?",
    "What country is {0} the capital of?",
]
_ASK_ZH = [
    "{0}的首都是哪里?",
    "{0}的首都是什么?",
    "{0}的首都是哪个城市?",
    "请问{0}的首都是哪里?",
    "{0}首都是哪?",
    "告诉我{0}的首都。",
]


def make(rng: Random) -> Exchange:
    """A capital asked for; held out are (country, wording) pairs, the country being known from other wordings."""
    roll = rng.random()
    if roll < 0.18:
        country, city = rng.choice(list(CAPITALS_ZH.items()))
        question = rng.choice(_ASK_ZH).format(country)
        return Exchange(question, question, f"{country}的首都是{city}。", Check("contains", [city]))
    country, city = rng.choice(list(CAPITALS.items()))
    if roll < 0.33:
        question = rng.choice(_ASK_BACK).format(city)
        return Exchange(question, question, f"{city} is the capital of {country}.", Check("contains", [country]))
    question = rng.choice(_ASK).format(country)
    return Exchange(question, question, f"The capital of {country} is {city}.", Check("contains", [city]))
