"""How fast DARE trains and scores, beside a model computed the way the released code computes it."""
