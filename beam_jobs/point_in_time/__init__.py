"""What is known of users and items at a moment, without what came later: tables in, tables out."""
