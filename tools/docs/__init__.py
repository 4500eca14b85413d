"""Makes the documentation: pictures, the reference, and the site."""
