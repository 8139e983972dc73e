"""Two-tower model: training, evaluation and the state carried from day to day."""
