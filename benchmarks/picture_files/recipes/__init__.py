"""How each file of the campaign is made and what is expected of it, by format."""
