"""The wordings of the instructions suite: per split, kind of constraint -> sentence frames.

{t} is the topic; {n}, {phrase}, {word}, {k1}, {k2} are drawn from VALUES. A kind `x+y` asks for two constraints.
"""

from alignmerge.suites.model import Split

FRAMES: dict[Split, dict[str, tuple[str, ...]]] = {
    "train": {
        "all_upper": ("Describe {t} in one short sentence. Use capital letters only.",),
        "all_lower": ("Describe {t} in one short sentence. Use no capital letters.",),
        "numbered_list": ("Give me {n} words about {t} as a numbered list.",),
        "bullets": ("Give me {n} words about {t} as bullet points.",),
        "json_keys": ('Describe {t} as a JSON object with the keys "{k1}" and "{k2}".',),
        "ends_with": ("Tell me a fact about {t}. End your answer with: {phrase}",),
        "starts_with": ('Tell me a fact about {t}. Start your answer with "{phrase}"',),
        "word_count": ("Tell me about {t} in at most {n} words.",),
        "min_words": ("Tell me about {t} in at least {n} words.",),
        "quoted": ("Tell me a fact about {t}. Put the whole answer in double quotes.",),
        "no_commas": ("Tell me a few things about {t}. Do not use commas.",),
        "contains": ('Tell me about {t} and use the word "{word}" {times}.',),
        "title_brackets": ("Make up a title for a book about {t}, in double angular brackets like <<title>>.",),
        "sentences": ("Tell me about {t} in exactly {n} short sentences.",),
        "bullets+all_lower": ("Give me {n} words about {t} as bullet points, without capital letters.",),
    },
    "calibration": {
        "all_upper": ("What are {t}? Reply with every letter capitalised.",),
        "all_lower": ("What are {t}? Reply with small letters throughout.",),
        "numbered_list": ("Name {n} things linked to {t}, numbered from 1.",),
        "bullets": ("Name {n} things linked to {t}, each after a dash on a line.",),
        "json_keys": ('Return JSON about {t}; its keys are "{k1}" and "{k2}".',),
        "ends_with": ('Say why people like {t}. The last words must be "{phrase}".',),
        "starts_with": ('Say why people like {t}. The first words must be "{phrase}".',),
        "word_count": ("Sum up {t} using {n} words or fewer.",),
        "min_words": ("Sum up {t} using {n} words or more.",),
        "quoted": ("What are {t}? Wrap the reply in quotation marks.",),
        "no_commas": ("What are {t}? Avoid the comma sign.",),
        "contains": ('Mention "{word}" {times} in a line on {t}.',),
        "title_brackets": ("Title a poem on {t}; surround it with << and >>.",),
        "sentences": ("Sum up {t}. Sentence count: {n}, no more, no less.",),
        "bullets+all_lower": ("Name {n} things linked to {t}, dashed lines, small letters throughout.",),
    },
    "validation": {
        "all_upper": ("Write about {t} with caps lock on, one sentence.",),
        "all_lower": ("Write about {t} as if the shift key were broken, one sentence in lowercase.",),
        "numbered_list": ("I want {n} ideas around {t} in a list numbered 1, 2 and so on.",),
        "bullets": ("I want {n} ideas around {t} in a bulleted list.",),
        "json_keys": ('Put {t} into a JSON dictionary having "{k1}" and "{k2}" as keys.',),
        "ends_with": ("Comment on {t} and close with these exact words: {phrase}",),
        "starts_with": ('Comment on {t} and open with these exact words: "{phrase}"',),
        "word_count": ("Comment on {t}. Limit: {n} words.",),
        "min_words": ("Comment on {t}. Minimum length: {n} words.",),
        "quoted": ('Comment on {t}, placing " before and after your comment.',),
        "no_commas": ("Comment on {t} leaving out all commas.",),
        "contains": ('Comment on {t}; the word "{word}" has to appear {times}.',),
        "title_brackets": ("Suggest a film title on {t} between << and >>.",),
        "sentences": ("Comment on {t} with precisely {n} sentences.",),
        "bullets+all_lower": ("I want {n} ideas around {t} in a bulleted list, all in lowercase.",),
    },
    "test": {
        "all_upper": (
            "In one line, what comes to mind with {t}? Answer in all caps.",
            "Write one short sentence on {t} in UPPERCASE.",
        ),
        "all_lower": (
            "In one line, what comes to mind with {t}? Answer in all lowercase.",
            "Write one short sentence on {t}, lower case letters exclusively.",
        ),
        "numbered_list": (
            "List {n} nouns connected with {t}. Number them.",
            "Produce a numbered list of {n} items on the subject of {t}.",
        ),
        "bullets": (
            "List {n} nouns connected with {t}. Use bullets.",
            "Produce a bullet list of {n} items on the subject of {t}.",
        ),
        "json_keys": (
            'Output only JSON on {t} with fields "{k1}" and "{k2}".',
            'Create a small JSON object for {t}. Required keys: "{k1}", "{k2}".',
        ),
        "ends_with": (
            "Share something on {t}. Finish with the phrase: {phrase}",
            'Write a line on {t} whose ending is "{phrase}".',
        ),
        "starts_with": (
            'Share something on {t}. Begin with the phrase "{phrase}"',
            'Write a line on {t} whose beginning is "{phrase}".',
        ),
        "word_count": (
            "What is special with {t}? No more than {n} words.",
            "Explain {t} within {n} words.",
        ),
        "min_words": ("What is special with {t}? Not fewer than {n} words.",),
        "quoted": (
            "Write one short sentence on {t} and enclose it in double quotation marks.",
            'Share something on {t}, the full reply inside " and ".',
        ),
        "no_commas": ("Write three things that belong to {t}; no commas allowed.",),
        "contains": (
            'Write a short line on {t} that has "{word}" in it {times}.',
            'Share something on {t} and include "{word}" {times}.',
        ),
        "title_brackets": (
            "Propose a headline on {t}, set inside << and >>.",
            "Write a song title on {t}. Format: <<song title>>.",
        ),
        "sentences": (
            "Explain {t}. Your reply has {n} sentences.",
            "What is special with {t}? Answer in {n} brief sentences.",
        ),
        "bullets+all_lower": ("Produce a bullet list of {n} items on the subject of {t}, entirely in lowercase.",),
    },
}

# What fills the frames: `n` by kind, then phrases, words and keys, which no two splits share.
COUNTS: dict[str, tuple[int, ...]] = {
    "numbered_list": (2, 3, 4),
    "bullets": (2, 3, 4),
    "word_count": (4, 5, 6, 8),
    "min_words": (8, 10, 12),
    "sentences": (2, 3),
    "bullets+all_lower": (2, 3),
}
TIMES = {1: "once", 2: "twice"}
ENDINGS: dict[Split, tuple[str, ...]] = {
    "train": ("That is all.", "Have a nice day.", "Now you know.", "Is that clear?", "Over and out."),
    "calibration": ("So be it.", "Good to know.", "And that was it."),
    "validation": ("The rest is history.", "Case closed.", "Any questions?"),
    "test": ("Hope this helps.", "Thanks for asking.", "That is my view.", "See you soon."),
}
OPENINGS: dict[Split, tuple[str, ...]] = {
    "train": ("Well,", "In short,", "As you know,", "Fun fact:", "Honestly,"),
    "calibration": ("To be fair,", "First of all,", "By the way,"),
    "validation": ("Surely,", "No doubt,", "Guess what:"),
    "test": ("In my view,", "Simply put,", "Of course,", "Believe it or not,"),
}
WORDS: dict[Split, tuple[str, ...]] = {
    "train": ("often", "many", "people", "good", "very"),
    "calibration": ("always", "small", "time"),
    "validation": ("never", "great", "world"),
    "test": ("today", "simple", "useful", "really"),
}
KEYS: dict[Split, tuple[str, ...]] = {
    "train": ("name", "type", "word", "fact"),
    "calibration": ("topic", "note", "label"),
    "validation": ("subject", "remark", "class"),
    "test": ("title", "kind", "summary", "example"),
}
