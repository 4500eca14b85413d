"""What `flowq test` is made of: the messages that it feeds, the fakes that it needs, and the exploration.

The fakes and the input come from the project; nothing of it is opened or read without being asked for."""
