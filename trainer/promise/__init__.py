"""`stream-trainer promise`: does the detector keep its alarm budget where nothing is wrong?"""
