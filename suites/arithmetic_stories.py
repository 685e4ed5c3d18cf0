"""The stories of the arithmetic suite: (category, operation, text) per split.

{n} is a name, {a} {b} {c} are whole numbers. Operations are keys of arithmetic.OPERATIONS.
"""

from alignmerge.suites.model import Split

NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("Anna", "Ben", "Carla", "David", "Ella", "Finn", "Grace", "Hugo"),
    "calibration": ("Iris", "Jack", "Kira", "Leo"),
    "validation": ("Mona", "Nils", "Olga", "Paul"),
    "test": ("Rosa", "Sam", "Tina", "Umar", "Vera", "Walt", "Yara", "Zack"),
}

ASK: dict[Split, str] = {
    "train": "Show the sum and end with the answer.",
    "calibration": "Give one line of working, then the result.",
    "validation": "Calculate shortly; the result comes last.",
    "test": "Work it out briefly and finish with the number.",
}

STORIES: dict[Split, tuple[tuple[str, str, str], ...]] = {
    "train": (
        ("shop", "a*b", "{n} buys {a} pens for {b} dollars each. How much does {n} pay?"),
        ("shop", "a*b+c", "{n} buys {a} caps for {b} dollars each and a bag for {c} dollars. What is the total?"),
        ("shop", "p-q", "{n} has {p} dollars and spends {q} dollars. How many dollars are left?"),
        ("kitchen", "a+b", "{n} bakes {a} rolls in the morning and {b} rolls at noon. How many rolls is that?"),
        ("kitchen", "a*b-c", "{n} fills {a} trays with {b} muffins each and eats {c}. How many muffins remain?"),
        ("kitchen", "m/b", "{n} shares {m} plums equally among {b} bowls. How many plums are in each bowl?"),
        ("school", "a*b", "A class has {a} rows with {b} chairs each. How many chairs are there?"),
        ("school", "a+b-c", "{n} has {a} pencils, gets {b} more and loses {c}. How many pencils does {n} have?"),
        ("school", "a+b", "{n} reads {a} pages on Monday and {b} pages on Tuesday. How many pages in all?"),
        ("farm", "a*b+c", "{n} keeps {a} pens with {b} sheep each and {c} goats. How many animals are there?"),
        ("farm", "p-q", "A farm had {p} hens and sold {q}. How many hens stayed?"),
        ("farm", "m/b", "{n} packs {m} eggs in boxes of {b}. How many boxes are full?"),
        ("toys", "a*b-c", "{n} owns {a} sets of {b} blocks and gives away {c} blocks. How many blocks are left?"),
        ("toys", "a+b-c", "A box holds {a} red and {b} blue balls. {c} balls are taken out. How many stay?"),
        ("toys", "a*b", "Each of {a} kites has {b} ribbons. How many ribbons do they have together?"),
        ("office", "a+b", "{n} sends {a} letters and {b} parcels. How many things did {n} send?"),
        ("office", "a*b+c", "{n} prints {a} copies of {b} pages and {c} extra pages. How many pages come out?"),
        ("office", "p-q", "A drawer held {p} clips; {n} used {q} of them. How many clips are still there?"),
    ),
    "calibration": (
        ("garden", "a*b", "{n} plants {a} beds with {b} tulips each. How many tulips grow there?"),
        ("garden", "p-q", "There were {p} pears on a tree and {q} fell down. How many still hang?"),
        ("garden", "a*b+c", "{n} waters {a} rows of {b} cabbages plus {c} vines. How many plants get water?"),
        ("music", "a+b", "{n} practises {a} minutes before lunch and {b} minutes after. How many minutes altogether?"),
        ("music", "a*b-c", "A choir has {a} groups of {b} singers, but {c} are ill. How many can sing?"),
        ("music", "m/b", "{m} songs are split evenly over {b} evenings. How many songs per evening?"),
        ("music", "a+b-c", "{n} knew {a} tunes, learned {b} and forgot {c}. How many tunes does {n} know now?"),
    ),
    "validation": (
        ("zoo", "a*b", "In {a} cages live {b} monkeys each. Count the monkeys."),
        ("zoo", "p-q", "A keeper had {p} buckets of fish and emptied {q}. How many are not empty?"),
        ("zoo", "a*b-c", "{a} ponds had {b} ducks each until {c} ducks flew off. How many ducks are on the ponds?"),
        ("post", "a+b", "{n} put {a} stamps on cards, then {b} on letters. How many stamps were used?"),
        ("post", "m/b", "{m} parcels go into {b} vans, equally many in each. How many parcels per van?"),
        ("post", "a*b+c", "{n} carries {a} sacks of {b} letters and {c} loose ones. How many letters are carried?"),
    ),
    "test": (
        ("travel", "a*b", "A bus makes {a} trips with {b} passengers on every trip. How many passengers ride?"),
        ("travel", "a*b+c", "{n} drives {a} days, {b} miles a day, then {c} more miles. How many miles is that?"),
        ("travel", "p-q", "A ferry left with {p} people and {q} got off. How many people are aboard?"),
        ("sport", "a+b", "{n} scored {a} points in game one and {b} in game two. What is the sum of points?"),
        ("sport", "a*b-c", "{a} teams of {b} players came, and {c} players went home. How many players were left?"),
        ("sport", "m/b", "{n} splits {m} runners into {b} equal teams. How large is each team?"),
        ("library", "a+b-c", "A shelf had {a} novels; {b} were added and {c} borrowed. How many novels are there now?"),
        ("library", "a*b", "{n} stacks {a} piles of {b} magazines. How many magazines are stacked?"),
        ("library", "p-q", "Out of {p} maps, {n} gave {q} to a friend. How many maps does {n} still own?"),
        ("party", "a*b+c", "{n} sets {a} tables for {b} guests each and {c} high chairs. How many seats are set?"),
        ("party", "a+b", "{n} hangs {a} lanterns indoors and {b} outdoors. How many lanterns hang?"),
        ("party", "m/b", "{m} balloons are tied in bunches of {b}. How many bunches does that give?"),
    ),
}
