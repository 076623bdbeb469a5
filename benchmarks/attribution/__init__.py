"""How well scores find clips of a query's motion: python -m benchmarks.attribution [--fast]

Six motions, the gradient method in its variants, and controls that need no gradients or no model.

The split, fixed before any number was seen. The gallery, the tuning queries and the reporting queries are scenes of
their own. Tuning queries alone choose among variants and dampings; every figure in the table is of the reporting
queries. Nothing else is fitted. All clips have one caption, so that no word tells the motion.
"""
