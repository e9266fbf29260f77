"""Upscaling videos: plan, segments, encoding, joining; on this machine or on a cluster."""
