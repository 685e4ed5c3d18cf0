"""What the merge methods do, in words that need no paper; their names stand on cards and in tables.

The registry of methods has its own summaries; reports read records and import no method. A test holds the
names together.
"""

METHODS = {
    "linear": "the weighted mean of all models, a “soup”",
    "task_arithmetic": "adds up what training changed in each expert and puts the sum on the anchor",
    "ties": "keeps each expert's largest changes, lets the experts vote on the direction and averages those that agree",
    "dare_linear": "drops expert changes at random, scales up the rest and adds it",
    "dare_ties": "drops expert changes at random, scales up the rest, then votes as ties does",
    "della": "drops small expert changes more often than large ones, then votes as ties does",
    "della_linear": "drops small expert changes more often than large ones and adds up the rest",
    "breadcrumbs": "drops the largest and the smallest expert changes and adds up the rest",
    "breadcrumbs_ties": "drops the largest and the smallest expert changes, then votes as ties does",
    "sce": "averages the changes in which experts differ most, where they agree in direction",
    "safemerge": "puts a safety-tuned model's change back into matrices where an expert leaves alignment",
    "safemerge_revert": "moves an expert back towards the anchor in matrices where it leaves alignment",
    "safelora": "projects expert changes onto the change that alignment made, where they differ most from it",
    "fisher": "averages every weight by how much each model depends on it (Fisher soup)",
    "regmean": "solves every layer so that it answers each model's inputs as that model does",
    "led": "keeps of every model's change what matters for its own task and for no other",
    "slerp": "goes along the arc between the anchor and one expert",
    "slerp_task": "goes along the arc between two experts' changes",
    "multislerp": "averages the directions of the experts' changes and keeps their mean length",
    "karcher": "averages the models on a sphere",
    "model_stock": "averages the experts and pulls them back to the anchor as far as they disagree",
    "layerwise": "adds the experts' changes with a weight that runs from the first layer to the last",
    "mergealign_thakkar": "adds the experts' changes and the change that alignment made to the base",
    "resta": "adds the experts' changes and a vector from an unaligned model to the anchor",
    "lata": "adds the experts' changes, weaker in tensors where they resemble the step from the base to the anchor",
    "alignmerge": "searches a merge that answers as the anchor where alignment is at stake, as the experts elsewhere",
    "repair_finetune": "trains the experts' mixture on the anchor's own answers",
    "alignment_shield": "takes the part that touches alignment out of the experts' mixture in one step",
}
