"""A long run at full speed: does any process of ours grow?"""
