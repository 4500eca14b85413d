"""What is measured: flowq, and the two programs that it is measured by."""
