"""The life of one message: what it carries, how it is written, and how a delivery of it is settled. Pure."""
