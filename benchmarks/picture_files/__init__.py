"""Picture files of many encoders, and whether each is read rightly or refused by its name."""
