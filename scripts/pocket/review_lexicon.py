"""Words and sentence patterns of the pocket film reviews.

A pattern holds slots. `{adj}` draws from the words of the sentence's polarity (-2 … 2), `{adj:not}`
from those of the opposite polarity (for negations), `{adj:though}` from a mild concession (for
"but" clauses); a slot without polarity draws from its plain list.
"""

from __future__ import annotations

PLAIN: dict[str, list[str]] = {
    "aspect": """the plot|the script|the dialogue|the acting|the camera work|the music|the ending
        |the first act|the opening scene|the humour|the editing|the pacing|the direction
        |the villain|the romance|the lead actor|the cast|the car chase|the final battle|the story
        |the love story|the last half hour|the child actor|the set design|the voice work""".split(
        "|"
    ),
    "aspects": """the jokes|the action scenes|the special effects|the characters|the costumes
        |the songs|the dance numbers|the flashbacks|the minor roles|the fight scenes
        |the performances|the dream scenes""".split("|"),
    "first": """Anna|Clara|Daniel|Edith|Frank|George|Helen|Ivan|James|Laura|Martin|Nora|Oscar|Paula
        |Robert|Simon|Teresa|Victor""".split("|"),
    "last": """Baker|Carver|Dalton|Ellis|Foster|Grant|Harris|Keller|Lang|Moore|Novak|Palmer|Quinn
        |Reed|Stone|Turner|Vance|Walsh""".split("|"),
    "role": """the detective|the young widow|the old sailor|the corrupt mayor|the lonely teacher
        |the bank robber|the country doctor|the retired spy|the jealous brother|the night nurse
        |the runaway bride|the tired boxer""".split("|"),
    "genre": """comedy|thriller|drama|western|horror film|musical|war film|love story|mystery
        |road movie|spy film|family film|documentary|crime film|ghost story""".split("|"),
    "titleword": """Silent|Broken|Golden|Hidden|Last|Distant|Crimson|Frozen|Empty|Midnight|Paper
        |Burning""".split("|"),
    "titlenoun": """Harbour|River|Letter|Garden|Station|Summer|Mirror|Bridge|Promise|Winter|Crown
        |Highway""".split("|"),
    "company": """my sister|my wife|two friends|my kids|my father|a full house|my neighbour
        |some students|my boss|nobody else""".split("|"),
    "time": """last night|on Sunday|at the festival|last week|on a long flight|on television
        |years ago|at the cinema|over the holidays|after work""".split("|"),
    "place": """a small town|Paris|the desert|a mountain village|an old hotel|the far north|Chicago
        |a space station|wartime London|a fishing port|a girls school|the near future""".split("|"),
    "topic": """a missing painting|two brothers|a failed robbery|a family secret|an unlikely
        friendship|a trial|a long journey|a haunted house|a lost dog|the end of a marriage
        |a strange letter|a train that never stops""".split("|"),
    "moment": """when the train arrives|near the end|in the second half|after an hour|at the wedding
        |in the courtroom|during the storm|before the credits|in the kitchen scene""".split("|"),
    "number": "two|three|four|five|a dozen|ten".split("|"),
}

_ADJECTIVES = {
    -2: """awful|terrible|dreadful|horrible|unbearable|pathetic|atrocious|completely worthless
        |painfully bad|a total mess""",
    -1: """weak|flat|dull|predictable|clumsy|forgettable|thin|tired|wooden|too slow|boring|silly
        |rather poor|a bit lazy""",
    0: """familiar|simple|quiet|strange|ordinary|dark|loud|as expected|hard to describe|unusual
        |rather long|old and modern at once""",
    1: """good|solid|charming|clever|funny|warm|decent|sharp|engaging|fresh|enjoyable|quite nice
        |well made|pleasant""",
    2: """brilliant|wonderful|superb|stunning|unforgettable|magnificent|perfect|outstanding
        |absolutely beautiful|a pure delight""",
}

_NOUN_ADJECTIVES = {
    -2: "awful|terrible|dreadful|horrible|unbearable|pathetic|atrocious|worthless",
    -1: "weak|flat|dull|predictable|clumsy|forgettable|tired|wooden|boring|silly|poor|lazy",
    0: "familiar|simple|quiet|strange|ordinary|dark|loud|unusual|long|small|modern",
    1: "good|solid|charming|clever|funny|warm|decent|sharp|engaging|fresh|nice|pleasant",
    2: "brilliant|wonderful|superb|stunning|unforgettable|magnificent|perfect|outstanding",
}

_FEELINGS = {
    -2: "hated|could not stand|despised|was disgusted by",
    -1: "disliked|was bored by|did not enjoy|got tired of",
    0: "noticed|thought about|expected|remember",
    1: "liked|enjoyed|was pleased by|had fun with",
    2: "loved|adored|was blown away by|fell in love with",
}

_EFFECTS = {
    -2: "made me want to leave|ruined the whole film|insulted everyone in the room",
    -1: "left me cold|went nowhere|dragged on and on|fell flat|felt forced",
    0: "went by|came and went|took some time|surprised nobody|felt like many others",
    1: "made me smile|worked well|kept me interested|felt honest|held my attention",
    2: "moved me to tears|took my breath away|made me laugh out loud|won my heart",
}

_VERDICTS = {
    -2: """avoid it at all costs|it is a complete waste of time|it is the worst film of the year
        |I want my money back|nobody should have to sit through this""",
    -1: """you can skip this one|I expected more|it is not worth the ticket|I looked at my watch
        often|it never finds its way""",
    0: """it runs for about two hours|it was shot in black and white|it is based on a novel
        |there is a scene after the credits|it opened in the spring""",
    1: """it is worth a look|I had a good time|it is better than you think|I would see it again
        |it does its job well""",
    2: """do not miss it|it is the best film of the year|I could watch it forever|it is a true
        masterpiece|everyone should see this""",
}

_COMPARISONS = {
    -2: "so much worse than|an insult next to",
    -1: "not as good as|weaker than",
    0: "about as long as|often compared with",
    1: "better than|more fun than",
    2: "far greater than|a triumph next to",
}


def _by_polarity(texts: dict[int, str]) -> dict[int, list[str]]:
    return {polarity: text.split("|") for polarity, text in texts.items()}


POLAR: dict[str, dict[int, list[str]]] = {
    "adj": _by_polarity(_ADJECTIVES),
    "noun_adj": _by_polarity(_NOUN_ADJECTIVES),
    "felt": _by_polarity(_FEELINGS),
    "effect": _by_polarity(_EFFECTS),
    "verdict": _by_polarity(_VERDICTS),
    "compared": _by_polarity(_COMPARISONS),
}

OPENINGS = [
    "I watched this with {company} {time}, and {aspect} was {adj}",
    "I saw {title} {time} and {felt} it",
    "{title} is a {noun_adj} {genre} set in {place}",
    "{title} is a {genre} about {topic}, and it is {adj}",
    "this {genre} about {topic} is {adj}",
    "this is a {noun_adj} {genre} with {actor} as {role}",
    "{company} took me to see this {genre} {time}, and it {effect}",
    "the new {genre} by {actor} is {adj}",
    "{actor} plays {role} in this {noun_adj} {genre}",
    "after {number} films with {actor}, this one is {adj}",
    "as a {genre}, {title} is {adj}",
    "set in {place}, this {genre} {effect}",
    "{number} people left {moment}, but I {felt} {aspect}",
    "when {actor} made {title}, {aspect} was {adj}",
    "from the first minute {aspect} {effect}",
]

SENTENCES = [
    "{aspect} is {adj}",
    "{aspect} is {adj}, and {aspect} {effect}",
    "{aspect} is {adj:though}, but {aspect} is {adj}",
    "{aspects} are {adj:though}, but {aspect} {effect}",
    "I {felt:though} {aspect}, but I {felt} {aspects}",
    "{aspect} is not exactly {adj:not}",
    "{aspect} is never {adj:not} {moment}",
    "{aspects} are hardly {adj:not}, and {verdict}",
    "{aspects} are not {adj:not} at all",
    "{aspects} are {adj}",
    "{actor} gives a {noun_adj} performance as {role}",
    "{actor} is {adj} as {role}",
    "I {felt} {aspect} {moment}",
    "{moment}, {aspect} {effect}",
    "{aspect} {effect} {moment}",
    "it is {compared} {title}",
    "there is a {noun_adj} scene {moment}",
    "even {company} said that {aspects} were {adj}",
    "with {actor} as {role}, {aspect} is {adj}",
    "{verdict}",
    "in short, {verdict}",
]
