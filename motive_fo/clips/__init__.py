"""From a video file to the pixels a model is shown: which frames, in which size, and what the file says of itself.

``spec`` says what is asked for, ``probe`` what the file holds (``container`` reads it), ``timeline`` which frame is on
screen at an instant, ``policy`` which frames a clip takes, ``decode`` makes the clip, ``worker`` does so in child
processes, ``cuts`` finds where a shot ends, ``digest`` tells whether a file changed.
"""
