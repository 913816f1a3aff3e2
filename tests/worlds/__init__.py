"""Small worlds that tests share: random networks, squares for people, crowds of squares."""
