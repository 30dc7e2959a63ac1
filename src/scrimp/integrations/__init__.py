"""Adapters that set sampler, loss, collation, schedule and checkpoint of the drop-ins right under other trainers.

`hf` (Hugging Face Trainer), `lightning`, `accelerate`: each is imported by itself and needs its own library (the extra
`integrations`).
"""
