"""The control store in SQL: SQLite in the home of the stack, PostgreSQL in production.

`tables` says what is kept, `migrate` brings a database there, `connect` opens one, `errors` translates what goes wrong,
`transactions` carries one transaction through it, and `control` is the port.
"""
