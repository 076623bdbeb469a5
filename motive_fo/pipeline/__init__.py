"""The steps over many clips, from paths and arrays alone: nothing here knows of FiftyOne.

Every step takes clip records and a run store, computes what is missing, records what fails on its clip, and can be
stopped and started again at any point.
"""
