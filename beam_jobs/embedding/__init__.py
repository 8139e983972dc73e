"""Steps of the embed job: rows are read, users are drawn, a tower is called."""
