"""Tables of results: a plan (YAML) says what is trained, the CSV beside it what came out."""
