"""Whether process=True really uses a second core: large pages parsed on threads and in processes."""
