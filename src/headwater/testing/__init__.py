"""What tests need. See README.md."""
