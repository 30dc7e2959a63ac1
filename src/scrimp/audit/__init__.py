"""Does it save in *your* training? A task of the user's own, held against its own plain recipe.

`design.py` says which arms, sweep and seeds; `plan.py` what they take on this machine; `folder.py` writes them as a study
in a workspace of its own; `work.py` runs that by the same Snakefile as any study; `verdict.py` reads what came out.
"""
