"""The study: AlignMerge beside other merges on the same inputs and items, over training seeds and expert sets.

    python -m benchmarks.study build --zoo DIR              # experts of seeds 1 and 2, and of the second setting
    python -m benchmarks.study tune  --zoo DIR              # seed 0, validation items; writes tuned.json
    python -m benchmarks.study run   --zoo DIR --data DIR   # test items; one JSON per cell, made ones are skipped
    python -m benchmarks.study sweep --zoo DIR --data DIR   # the points of the frontier
    python -m benchmarks.study table                        # what is there
    python -m benchmarks.study docs                         # docs/study.md from the JSONs alone

`--records DIR` keeps the audits that are measured in that call, with the texts of items and answers, as runs:

    alignmerge report DIR/main/seed0-three                       # the report of one seed's merges of one set
    alignmerge report DIR/main/* --index -o DIR/index.html       # a page over all of them

Which settings, seeds, sets, methods, knobs and controls there are is data: see design.py.
"""
