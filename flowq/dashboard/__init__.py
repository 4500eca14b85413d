"""The web page: a pipeline, live, in a browser, with the extra `dashboard`.

Everything is rendered on the server; the browser only puts texts into their places."""
