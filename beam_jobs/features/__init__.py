"""The Beam job that writes examples, queries, users and corpora. No TensorFlow."""
