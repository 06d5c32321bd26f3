"""twinleg trades perpetual futures in two legs: a main position and a smaller opposite hedge."""
