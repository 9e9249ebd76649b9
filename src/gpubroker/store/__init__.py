"""State: schema, migrations, queries."""
