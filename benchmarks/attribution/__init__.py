"""How good scores are: python -m benchmarks.attribution TABLE [--fast] [--cache FOLDER]

Tables: ``retrieval`` (do scores find clips of the query's motion?), ``lds`` (do they predict what training on half of
the clips does?), ``counterfactual`` (does training on the clips they choose help more than on others?), ``tail-patch``
(does one step on a clip help the queries it is said to help?), ``ablations``; and on pools with their own protocol
(``evidence``) ``estimators``, which chooses, and ``evidence``, which reports.

All but those two have two corpora of six motions each: a camera before a still object, and an object before a still
background. Beside the gradient method in its variants stand controls that need no gradients, no training or no model.

The split, fixed before any number was seen. Gallery, tuning queries and reporting queries are scenes of their own.
Corpora of seed 0, and tuning queries, choose: the length of the trainings (by the noise ceiling of their losses alone,
never by a method's score), variants, dampings, comparisons. Every figure in a table is of the reporting queries of seed
1. Losses are measured at noise and timesteps that no gradient was taken with. All clips have one caption, so that no
word tells the motion.
"""
