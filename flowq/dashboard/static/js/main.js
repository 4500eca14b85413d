// The page is complete as it comes from the server. This keeps its numbers up to date and adds keys.
// What comes from outside is only ever text: no element is made from it.
