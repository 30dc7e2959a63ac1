"""The prototypes study: does pruning by distance to prototypes beat random pruning, and the power law in data size?"""
