"""A host with forms: films, their stills and posters, in the admin and on a page of its own."""
