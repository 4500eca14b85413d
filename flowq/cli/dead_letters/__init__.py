"""What the commands of `flowq dlq` share: choosing letters, editing, import, screens.

Works on letters through `flowq.dead_letters` alone."""
