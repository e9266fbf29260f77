"""Reading and writing video with exact times, exact colour and everything else that the file holds.

probe.py       what is in a file: streams, times, colour, shape; index of its packets
colour.py      what the numbers in a frame mean, and the way to RGB and back
reader.py      frames as RGB arrays with their exact times, from anywhere in the file
encoders.py    which encoders exist, how they are driven, what they refuse
streams.py     what a container can carry, and what becomes of each stream
subtitles.py   SubRip text <-> timed text of MP4
writer.py      encoded segments, and joining them with all other streams
"""
