"""How the starter family was made: data rendered by code, and one command per artefact. See README.md beside this."""
