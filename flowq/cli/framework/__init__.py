"""What all commands share: parameters, help, errors, logs, completion, finding pipelines.

Knows no command."""
