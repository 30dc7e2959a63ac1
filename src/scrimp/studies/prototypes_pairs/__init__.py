"""The study prototypes-pairs: pruning by prototypes, on image-text pairs."""
