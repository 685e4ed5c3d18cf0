"""The tasks of the units suite per split: conversions with the factor stated or not, and quantities read off notes.

Conversion: (category, from, to, factor, low, high) with the factor a whole number; `to` is the asked unit.
Note: (category, text, question, unit, low, high) with {q} the asked quantity and {x} a distractor.
"""

from alignmerge.suites.model import Split

Conversion = tuple[str, str, str, int, int, int]
Note = tuple[str, str, str, str, int, int]

# {v} value, {f} from, {to} to, {k} factor. "given" states the factor, "asked" does not.
FRAMES: dict[Split, dict[str, str]] = {
    "train": {
        "given": "One of the {f} is {k} {to}. How many {to} are {v} {f}?",
        "asked": "Convert {v} {f} to {to}.",
        "note": "Note: {note} Question: {question}",
    },
    "calibration": {
        "given": "Knowing that each of the {f} has {k} {to}, express {v} {f} in {to}.",
        "asked": "Express {v} {f} in {to}.",
        "note": "Read: {note} Then answer: {question}",
    },
    "validation": {
        "given": "If {k} {to} make up one of the {f}, what are {v} {f} in {to}?",
        "asked": "{v} {f} are how much in {to}?",
        "note": "{note} From this text, {question}",
    },
    "test": {
        "given": "There are {k} {to} in each of the {f}. Give {v} {f} as {to}.",
        "asked": "What do {v} {f} come to in {to}?",
        "note": "Message: {note} Reply with number and unit: {question}",
    },
}

CONVERSIONS: dict[Split, tuple[Conversion, ...]] = {
    "train": (
        ("length", "feet", "inches", 12, 2, 9),
        ("length", "yards", "feet", 3, 2, 30),
        ("length", "kilometers", "meters", 1000, 2, 30),
        ("length", "meters", "centimeters", 100, 2, 30),
        ("mass", "kilograms", "grams", 1000, 2, 30),
        ("mass", "pounds", "ounces", 16, 2, 6),
        ("mass", "stones", "pounds", 14, 2, 6),
        ("money", "dollars", "cents", 100, 2, 30),
        ("money", "quarters", "cents", 25, 2, 8),
        ("money", "dimes", "cents", 10, 2, 40),
        ("counting", "dozens", "pieces", 12, 2, 9),
        ("counting", "pairs", "pieces", 2, 3, 40),
    ),
    "calibration": (
        ("electricity", "kilowatts", "watts", 1000, 2, 30),
        ("electricity", "volts", "millivolts", 1000, 2, 30),
        ("paper", "quires", "sheets", 25, 2, 8),
        ("paper", "packs", "cards", 52, 2, 4),
    ),
    "validation": (
        ("sound", "kilohertz", "hertz", 1000, 2, 40),
        ("sound", "octaves", "semitones", 12, 2, 12),
    ),
    "test": (
        ("time", "hours", "minutes", 60, 2, 9),
        ("time", "weeks", "days", 7, 2, 12),
        ("time", "years", "months", 12, 2, 9),
        ("time", "days", "hours", 24, 2, 5),
        ("volume", "liters", "milliliters", 1000, 2, 30),
        ("volume", "gallons", "quarts", 4, 2, 20),
        ("volume", "quarts", "pints", 2, 3, 40),
        ("volume", "cups", "tablespoons", 16, 2, 6),
        ("data", "bytes", "bits", 8, 2, 12),
        ("data", "kilobits", "bits", 1000, 2, 30),
    ),
}

NOTES: dict[Split, tuple[Note, ...]] = {
    "train": (
        ("length", "The rope is {q} meters long and cost {x} dollars.", "How long is the rope?", "meters", 3, 90),
        ("length", "Room {x} is {q} feet wide.", "How wide is the room?", "feet", 8, 40),
        ("length", "We drove {q} kilometers on route {x}.", "How far did we drive?", "kilometers", 20, 600),
        ("mass", "Box {x} weighs {q} kilograms.", "What is the weight of the box?", "kilograms", 2, 80),
        ("mass", "Add {q} grams of flour and {x} eggs.", "How much flour is needed?", "grams", 50, 900),
        ("mass", "{x} puppies were born, the first at {q} ounces.", "What did the first puppy weigh?", "ounces", 5, 30),
        ("money", "Ticket {x} costs {q} dollars.", "What does the ticket cost?", "dollars", 5, 300),
        ("money", "A stamp is {q} cents and we need {x} of them.", "What is the price of a stamp?", "cents", 10, 95),
        ("counting", "{x} friends ordered {q} pieces of cake.", "How much cake was ordered?", "pieces", 3, 60),
        ("counting", "Order {x} holds {q} boxes of tiles.", "How many boxes does the order hold?", "boxes", 3, 90),
    ),
    "calibration": (
        ("electricity", "Lamp {x} uses {q} watts.", "what power does the lamp use?", "watts", 5, 120),
        ("electricity", "The fuse in hall {x} takes {q} amperes.", "what current does it take?", "amperes", 6, 60),
        ("electricity", "Battery {x} delivers {q} volts.", "what voltage is delivered?", "volts", 3, 48),
        ("paper", "Printer {x} has {q} sheets left.", "how much paper is left?", "sheets", 10, 400),
        ("paper", "Chapter {x} fills {q} pages.", "how long is the chapter?", "pages", 6, 70),
    ),
    "validation": (
        ("sound", "Concert {x} reached {q} decibels.", "how loud was the concert?", "decibels", 60, 120),
        ("sound", "String {x} hums at {q} hertz.", "at which frequency does it hum?", "hertz", 40, 900),
        ("sound", "Track {x} runs at {q} beats per minute.", "how fast is the track?", "beats", 60, 180),
    ),
    "test": (
        ("time", "Flight {x} takes {q} minutes.", "How long is the flight?", "minutes", 40, 400),
        ("time", "The lease of flat {x} lasts {q} months.", "How long does the lease last?", "months", 3, 60),
        ("time", "Boil {x} eggs for {q} seconds.", "For how long should they boil?", "seconds", 90, 600),
        ("volume", "Tank {x} contains {q} liters.", "What does the tank contain?", "liters", 10, 900),
        ("volume", "Pour {q} milliliters into glass {x}.", "How much should be poured?", "milliliters", 20, 900),
        ("volume", "We sold {q} gallons at pump {x}.", "How much was sold?", "gallons", 10, 500),
        ("data", "Disk {x} offers {q} gigabytes.", "What is the size of the disk?", "gigabytes", 16, 900),
        ("data", "Photo {x} needs {q} megabytes.", "What space does the photo need?", "megabytes", 2, 60),
        ("speed", "Boat {x} passed at {q} knots.", "At what speed did it pass?", "knots", 10, 90),
        ("speed", "Wind at station {x} blew {q} mph.", "What was the wind speed?", "mph", 5, 95),
    ),
}
