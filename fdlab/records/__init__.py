"""What an evaluation leaves: records, scores of single pictures, figures, pages, and the numbers' origin."""
