"""Where the bytes are: all that flowq asks of Redis. No rules of its own, and no other floor knows Redis.

`Broker` holds the connections; what is asked through it are methods of small classes made of one when needed, as in
`Workers(broker).leases(names)`. They keep no state of their own. Functions that still take a broker follow.
"""
