"""Results into stores and files, and the query port over them."""
