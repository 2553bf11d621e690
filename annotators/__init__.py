"""Who labels, how much do they disagree, who should get what?"""
