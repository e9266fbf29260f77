"""Reading and writing video with exact times, exact colour and everything else that the file holds.

- `probe`: what is in a file: streams, times, colour, shape; index of its packets
- `colour`: what the numbers in a frame mean, and the way to RGB and back
- `reader`: frames as RGB arrays with their exact times, from anywhere in the file
- `encoders`: which encoders exist, how they are driven, what they refuse
- `streams`: what a container can carry, and what becomes of each stream
- `writer`: encoded segments, and joining them with all other streams
- `subtitles`: SubRip text <-> timed text of MP4
- `sequence`: numbered pictures as a video
- `matroska`: what libav does not pass on of a Matroska file
- `intra`: intra pictures alone, for curation
- `native`: the height at which a drawing was made
"""
