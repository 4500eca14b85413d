// The page is complete without this.
