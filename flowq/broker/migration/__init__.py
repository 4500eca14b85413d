"""What a new version of a pipeline changes in Redis: compares plans, moves messages, records the new plan.

Nothing here runs while messages are handled, except the record of the plan."""
